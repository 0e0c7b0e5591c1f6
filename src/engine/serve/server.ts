import type { Errno, Tid } from '../../abi/brand.ts'
import { NOTIF } from '../../abi/seccomp.ts'
import { syscallName } from '../../abi/syscalls.ts'
import { NotifiedCaller } from '../../caller/caller.ts'
import type { Container } from '../../caller/identity/container.ts'
import { LostThread } from '../../caller/identity/thread-identity.ts'
import type { ThreadContext } from '../../caller/thread-context.ts'
import type { Act, RecoveryTrace } from '../../calls/act.ts'
import { allTexts } from '../../calls/arguments.ts'
import { type Reason, type ReasonCode, why } from '../../calls/reason.ts'
import type { CallRecord, RecordedArguments } from '../../calls/record.ts'
import { RecordTexts } from '../../calls/record-texts.ts'
import { SLOT, STATE } from '../../calls/slot.ts'
import type { Syscall } from '../../calls/syscall.ts'
import { continueWith, type Verdict } from '../../calls/verdict.ts'
import { now } from '../../kernel/clock.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { CountWriter } from '../../memories/count-writer.ts'
import type { RecordWriter } from '../../memories/records.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import { keyNames } from '../../policy/key-names.ts'
import { keyThatIsOff } from '../../policy/serves.ts'
import type { Slots } from '../journal/slots.ts'
import type { LxcProxyCall } from '../lxc/lxc-proxy.ts'
import type { Replay, Replays } from '../replay/replay.ts'
import { Answer } from './answer.ts'
import { routes } from './dispatch.ts'
import { FdAnswer } from './fd-answer.ts'
import { type Outcome, outcomeOfError, outcomeOfVerdict, UNKNOWN_OUTCOME, writeBack } from './outcome.ts'
import { judge, perform } from './perform.ts'
import { SlotRegisters } from './registers.ts'

/** A call that its thread has received. */
export interface Call {
  /** Offset in the journal, in bytes. */
  readonly slot: number
  /** The listener's descriptor; of a forwarded call the one that LXC's monitor has sent. */
  readonly listenerFd: number
  readonly container: Container
  /** `now()` when the call was received, in milliseconds. */
  readonly start: number
  /** Set if a monitor of LXC received the call: the monitor waits for a reply after the caller's answer. */
  readonly forwarded?: LxcProxyCall
  /** Set if an earlier engine received the call: the state, of `STATE`, in which that engine left the slot. */
  readonly left?: number
  /** Engines have failed while they served this call. */
  readonly isPoison?: boolean
}

/** Where the outcomes of calls are written. */
interface Written {
  readonly records: RecordWriter
  readonly counts: CountWriter
  /** How much of the arguments is written. */
  readonly mode: ArgumentMode
}

const NO_TEXTS: readonly number[] = []

/** How many different faults one thread reports at most. */
const FAULTS_LIMIT = 64

/** Says of a call that the policy does not serve which key is off, or that only a daemon of root could serve it. */
function off({ policy, ofUser }: Container, { name, key }: Syscall<unknown>): Verdict {
  if (ofUser?.withheld.has(name)) return continueWith('userDaemon')
  return continueWith('keyOff', keyNames.indexOf(keyThatIsOff(policy, key)))
}

/**
 * Serves calls on one thread: decode, decide, act, answer, record.
 *
 * Precondition: each thread has its own `Server`, and passes only calls whose slots belong to that thread.
 */
export class Server {
  readonly #context: ThreadContext
  readonly #slots: Slots
  readonly #records: RecordWriter
  readonly #counts: CountWriter
  readonly #allTexts: ReadonlyMap<string, readonly number[]>
  /** What the call that is served was made with. */
  readonly #texts = new RecordTexts()
  readonly #args: RecordedArguments
  readonly #answer: Answer
  readonly #fdAnswer: FdAnswer
  readonly #registers: SlotRegisters
  readonly #onFault: (message: string) => void
  readonly #faults = new Set<string>()
  #isBrief = false
  readonly #replays: Replays
  /** The replay of the act that this thread is performing. */
  #replay: Replay<Act> | undefined

  /** @param onFault receives a sentence for each fault of ours */
  constructor(
    context: ThreadContext,
    slots: Slots,
    { records, counts, mode }: Written,
    replays: Replays,
    onFault: (message: string) => void,
  ) {
    this.#onFault = onFault
    this.#context = context
    this.#replays = replays
    this.#slots = slots
    this.#records = records
    this.#counts = counts
    this.#allTexts = allTexts(mode)
    this.#args = { registers: mode === 'none' ? undefined : slots.words, from: 0, texts: this.#texts }
    this.#answer = new Answer(slots.view)
    this.#fdAnswer = new FdAnswer(this.#answer, slots)
    this.#registers = new SlotRegisters(slots.view)
  }

  /** Returns whether the handler of the call that was screened last is declared brief. */
  get isBrief(): boolean {
    return this.#isBrief
  }

  /** Answers the call if its registers alone decide it. @returns false if the call must be served */
  screen(call: Call): boolean {
    let outcome: Outcome | undefined
    try {
      const verdict = this.#screen(call)
      outcome = verdict && outcomeOfVerdict(verdict)
    } catch (error) {
      outcome = this.#outcomeOf(error, call)
    }
    if (!outcome) return false
    this.#finish(call, outcome)
    return true
  }

  /**
   * Finishes an inherited call if that is possible without a look at the caller.
   *
   * @returns false if it must be served
   */
  settle(call: Call): boolean {
    const { slot, listenerFd, left, isPoison } = call
    if (!this.#answer.waits(listenerFd, slot)) this.#conclude(call)
    else if (left === STATE.acted) this.#finish(call, this.#acted(slot))
    else if (left !== STATE.acting) return isPoison ? this.#leave(call) : this.screen(call)
    else if (isPoison) this.#finish(call, UNKNOWN_OUTCOME)
    else return false
    return true
  }

  /**
   * Frees the slot of an inherited call that does not wait any more: it was answered or interrupted, and the earlier
   * engine may have ended before it wrote the record; or that engine ended before the kernel wrote a notification.
   */
  #conclude(call: Call): void {
    const { view } = this.#slots
    const isCall = view.getBigUint64(call.slot + NOTIF.id, true) !== 0n
    if (isCall) this.#record(call, 'continue', 0, { code: 'engineEnded' }, false)
    this.#slots.setState(call.slot, STATE.free)
  }

  #leave(call: Call): true {
    this.continue(call, 'engineFailed')
    return true
  }

  /** Returns the result which an earlier engine stored for the call. */
  #acted(slot: number): Outcome {
    const { view } = this.#slots
    const number = view.getUint32(slot + SLOT.errno, true) as Errno | 0
    const value = view.getBigInt64(slot + SLOT.value, true)
    return {
      is: number === 0 ? 'act' : 'errno',
      errno: number,
      value,
      why: why(number === 0 ? 'done' : 'kernelAnswered'),
    }
  }

  /** Continues a call: the kernel runs it as the caller. */
  continue(call: Call, code: ReasonCode): void {
    this.#finish(call, outcomeOfVerdict(continueWith(code)))
  }

  /**
   * Serves a call that `screen` did not answer. May block in file systems or locks of the container.
   *
   * @throws {LostThread} after the call was answered: the thread did not get back to its home state
   */
  serve(call: Call): void {
    let lost = false
    let outcome: Outcome
    try {
      outcome = this.#serve(call)
    } catch (error) {
      lost = error instanceof LostThread || this.#context.identity.inside
      outcome = this.#outcomeOf(error, call)
    }
    this.#finish(call, outcome)
    if (lost) throw new LostThread('Cannot use the thread again: it did not get home')
  }

  /** Maps an exception to an outcome. A fault of ours is reported once, since a container may repeat the call. */
  #outcomeOf(error: unknown, { slot }: Call): Outcome {
    const outcome = outcomeOfError(error)
    const { view } = this.#slots
    if (outcome.why.code === 'fault' && this.#faults.size < FAULTS_LIMIT) {
      const [arch, nr] = [view.getUint32(slot + NOTIF.arch, true), view.getInt32(slot + NOTIF.nr, true)]
      const message = `Cannot serve ${syscallName(arch, nr) ?? nr}: ${error}`
      if (!this.#faults.has(message)) this.#onFault(message)
      this.#faults.add(message)
    }
    return outcome
  }

  #screen({ slot, container }: Call): Verdict | undefined {
    const { view } = this.#slots
    if (container.barred) return continueWith(container.barred)
    const handler = this.#handler(slot)
    if (!handler) return continueWith('notServed')
    if (view.getUint32(slot + NOTIF.tid, true) === 0) return continueWith('invisibleCaller')
    this.#isBrief = handler.brief === true
    const verdict = handler.screen(this.#registers, container.policy)
    return verdict?.why.code === 'keyOff' ? off(container, handler) : verdict
  }

  #handler(slot: number): Syscall<unknown> | undefined {
    const { view } = this.#slots
    const route = routes.get(view.getUint32(slot + NOTIF.arch, true))
    if (!route) return undefined
    this.#registers.moveTo(slot, route.bits)
    return route.handlers[view.getInt32(slot + NOTIF.nr, true)]
  }

  #serve(call: Call): Outcome {
    const { slot, listenerFd, container, left } = call
    const handler = this.#handler(slot)!
    const tid = this.#slots.view.getUint32(slot + NOTIF.tid, true) as Tid
    this.#replays.await(container, tid)
    const thread = { tid, bits: this.#registers.bits }
    const notes = (note: bigint): void => this.#slots.view.setBigUint64(slot + SLOT.note, note, true)
    const waits = (): boolean => this.#answer.waits(listenerFd, slot)
    const again = left === STATE.acting ? this.#trace(slot) : undefined
    this.#texts.begin(this.#allTexts.get(handler.name) ?? NO_TEXTS, this.#registers)
    const caller = new NotifiedCaller(this.#context, container, thread, {
      waits,
      notes,
      noted: again?.note ?? 0n,
      texts: this.#texts,
    })
    // The try block does the work of `using`, whose compiled code costs a microsecond more.
    try {
      const verdict = judge(handler, this.#registers, caller, container.policy)
      if (verdict.is !== 'act') return again ? UNKNOWN_OUTCOME : outcomeOfVerdict(verdict)
      this.#replay = this.#replays.of(verdict.act, caller, call, waits)
      const given = again && caller.given(again.note)
      this.#slots.setState(slot, STATE.acting)
      const effect = perform(verdict.act, caller, again && { ...again, given }, this.#replay)
      // A result with a descriptor or with memory to write is not stored: the next engine can repeat such an act.
      if (!effect.fd && !effect.writes) this.#slots.settle(slot, effect.value, effect.errno ?? 0)
      return writeBack(effect, caller, verdict.why)
    } finally {
      caller[Symbol.dispose]()
    }
  }

  #trace(slot: number): RecoveryTrace {
    const { view } = this.#slots
    return { since: view.getFloat64(slot + SLOT.since, true), note: view.getBigUint64(slot + SLOT.note, true) }
  }

  #finish(call: Call, outcome: Outcome): void {
    const { slot } = call
    const { is, errno, why } = outcome
    const replay = this.#replay
    this.#replay = undefined
    let delivered: boolean
    try {
      delivered = replay ? replay.answer(() => this.#send(call, outcome)) : this.#send(call, outcome)
    } catch (error) {
      // The caller's descriptor table is full (EMFILE): no answer was sent, and the call still waits.
      if (!outcome.fd) throw error
      this.#finish(call, outcomeOfError(error))
      return
    }
    call.forwarded?.reply(outcome, delivered)
    this.#record(call, is, errno, delivered ? why : { code: 'gone' }, delivered)
    this.#slots.setState(slot, STATE.free)
  }

  /** Sends the answer. @returns whether the call still waited */
  #send({ slot, listenerFd, container }: Call, { is, errno, value, fd, cloexec, replaces, sent }: Outcome): boolean {
    if (is === 'continue') return this.#answer.continue(listenerFd, slot)
    if (errno !== 0) return this.#answer.errno(listenerFd, slot, errno)
    if (!fd) {
      const delivered = this.#answer.value(listenerFd, slot, value)
      if (delivered) sent?.(Number(value))
      return delivered
    }
    using passed = fd
    if (replaces !== undefined) {
      const replaced = this.#replace(listenerFd, slot, passed, replaces, value)
      if (replaced) sent?.(replaces)
      return replaced
    }
    const number = this.#fdAnswer.give(listenerFd, slot, container, passed, cloexec === true)
    if (number !== undefined) sent?.(number)
    return number !== undefined
  }

  #replace(listenerFd: number, slot: number, fd: Handle, replaces: number, value: bigint): boolean {
    const number = this.#answer.descriptor(listenerFd, slot, fd, { cloexec: true, replaces })
    fd[Symbol.dispose]()
    return number !== undefined && this.#answer.value(listenerFd, slot, value)
  }

  #record(
    { slot, container, start }: Call,
    is: Outcome['is'],
    errno: number,
    { code, a, b }: Reason,
    delivered: boolean,
  ): void {
    const { view } = this.#slots
    const record: CallRecord = {
      container: container.index,
      serial: container.serial,
      nr: view.getInt32(slot + NOTIF.nr, true),
      arch: view.getUint32(slot + NOTIF.arch, true),
      tid: view.getUint32(slot + NOTIF.tid, true) as Tid,
      verdict: delivered ? is : 'gone',
      errno,
      reason: code,
      a: a ?? 0,
      b: b ?? 0,
      microseconds: (now() - start) * 1000,
      time: Date.now(),
    }
    this.#args.from = (slot + NOTIF.args) >> 2
    this.#records.write(record, this.#args)
    this.#counts.count(record, this.#args)
    this.#texts.end()
  }
}
