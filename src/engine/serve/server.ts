import type { Errno, Tid } from '../../abi/brand.ts'
import { errno } from '../../abi/errno.ts'
import { NOTIF } from '../../abi/seccomp.ts'
import { architectures, syscallName } from '../../abi/syscalls.ts'
import { NotifiedCaller, type ThreadContext } from '../../caller/caller.ts'
import type { Container } from '../../caller/identity/container.ts'
import { LostThread } from '../../caller/identity/thread-identity.ts'
import type { RecoveryTrace } from '../../calls/act.ts'
import { allTexts } from '../../calls/arguments.ts'
import type { Registers } from '../../calls/caller.ts'
import { type ReasonCode, why } from '../../calls/reasons.ts'
import type { Syscall } from '../../calls/syscall.ts'
import { continueWith, isOff, judgedBy, type Verdict, verdictOfError } from '../../calls/verdict.ts'
import { SLOT, type Slots, STATE } from '../../link/journal.ts'
import { keyNames } from '../../policy/keys.ts'
import { keyThatIsOff } from '../../policy/policy.ts'
import { needsJudge } from '../../syscalls/bpf-token.ts'
import { judgeOnHost, withoutCaller } from '../../syscalls/host-userns.ts'
import { handlers } from '../../syscalls/index.ts'
import { CallerLook } from '../facts/caller-look.ts'
import type { Replays } from '../replay/replay.ts'
import { type Call, CallEnd, type OutcomeWriters } from './call-end.ts'
import {
  kernelAnswered,
  type Outcome,
  outcomeOfError,
  outcomeOfVerdict,
  perform,
  UNKNOWN_OUTCOME,
  writeBack,
} from './outcome.ts'

const LOW = 0xffff_ffffn

/** Reads the registers of a call in its slot. Each thread has one such object and moves it from slot to slot. */
class SlotRegisters implements Registers {
  readonly #view: DataView
  #at = 0
  /** The word size of the call's architecture. */
  bits: 32 | 64 = 64

  constructor(view: DataView) {
    this.#view = view
  }

  /** @param bits word size of the caller's architecture: the upper half of a 32-bit caller's registers means nothing */
  moveTo(slot: number, bits: 32 | 64): void {
    this.#at = slot + NOTIF.args
    this.bits = bits
  }

  int(index: number): number {
    return this.#view.getInt32(this.#at + 8 * index, true)
  }

  uint(index: number): number {
    return this.#view.getUint32(this.#at + 8 * index, true)
  }

  pointer(index: number): bigint {
    const register = this.#view.getBigUint64(this.#at + 8 * index, true)
    return this.bits === 64 ? register : register & LOW
  }
}

/** The handlers for the calls of one architecture. */
interface Route {
  readonly bits: 32 | 64
  /** Indexed by the number of the call. */
  readonly handlers: readonly (Syscall<unknown> | undefined)[]
}

/** Maps AUDIT_ARCH_* to routes. Calls with another architecture or number are continued. */
export const routes: ReadonlyMap<number, Route> = new Map(
  Object.values(architectures).map(({ audit, bits, numbers }): [number, Route] => {
    const table: (Syscall<unknown> | undefined)[] = []
    for (const handler of handlers) {
      const nr = (numbers as Readonly<Record<string, number>>)[handler.name]
      if (nr !== undefined) table[nr] = handler
    }
    return [audit, { bits, handlers: table }]
  }),
)

/** How many different faults one thread reports at most. */
const LIMIT = 64

/** Reports each fault of ours once, since a container may repeat the call. */
class FaultReport {
  readonly #slots: DataView
  readonly #tell: (message: string) => void
  readonly #told = new Set<string>()

  /** @param tell receives a sentence for each fault */
  constructor(slots: DataView, tell: (message: string) => void) {
    this.#slots = slots
    this.#tell = tell
  }

  /** Maps an exception to the outcome of the call in `slot`, and reports it if it is a fault. */
  outcomeOf(error: unknown, slot: number): Outcome {
    const outcome = outcomeOfError(error)
    if (outcome.why.code === 'fault') this.#report(error, slot)
    return outcome
  }

  #report(error: unknown, slot: number): void {
    if (this.#told.size >= LIMIT) return
    const [arch, nr] = [this.#slots.getUint32(slot + NOTIF.arch, true), this.#slots.getInt32(slot + NOTIF.nr, true)]
    const message = `Cannot serve ${syscallName(arch, nr) ?? nr}: ${error}`
    if (!this.#told.has(message)) this.#tell(message)
    this.#told.add(message)
  }
}

const NO_TEXTS: readonly number[] = []

/** Returns why the policy does not serve a call: the key that is off, or that only root's daemon could serve it. */
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
  readonly #allTexts: ReadonlyMap<string, readonly number[]>
  readonly #end: CallEnd
  readonly #registers: SlotRegisters
  readonly #look: CallerLook
  readonly #faults: FaultReport
  readonly #replays: Replays

  /** @param onFault receives a sentence for each fault of ours */
  constructor(
    context: ThreadContext,
    slots: Slots,
    written: OutcomeWriters,
    replays: Replays,
    onFault: (message: string) => void,
  ) {
    this.#context = context
    this.#replays = replays
    this.#slots = slots
    this.#allTexts = allTexts(written.mode)
    this.#look = new CallerLook(context)
    this.#end = new CallEnd(slots, written, context.memory.texts, context.callerName)
    this.#faults = new FaultReport(slots.view, onFault)
    this.#registers = new SlotRegisters(slots.view)
  }

  /** Answers the call if its registers alone decide it. @returns false if the call must be served */
  screen(call: Call): boolean {
    let outcome: Outcome | undefined
    try {
      const verdict = this.#screen(call)
      outcome = verdict && outcomeOfVerdict(verdict)
    } catch (error) {
      outcome = this.#faults.outcomeOf(error, call.slot)
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
    if (!this.#end.answer.waits(listenerFd, slot)) this.#conclude(call)
    else if (left === STATE.acted) this.#finish(call, this.#acted(slot))
    else if (left !== STATE.acting) return isPoison ? this.#leave(call) : this.screen(call)
    else if (isPoison) this.#finish(call, UNKNOWN_OUTCOME)
    else return false
    return true
  }

  /**
   * Frees the slot of an inherited call that no longer waits. Either it was answered or interrupted, and the earlier
   * engine may have ended before it wrote the record; or that engine ended before the kernel wrote a notification.
   */
  #conclude(call: Call): void {
    const { view } = this.#slots
    const isCall = view.getBigUint64(call.slot + NOTIF.id, true) !== 0n
    if (isCall) this.#end.record(call, 'continue', 0, { code: 'engineEnded' }, false)
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
      why: number === 0 ? why('done') : kernelAnswered(number),
    }
  }

  /** Continues a call: the kernel runs it as the caller. */
  continue(call: Call, code: ReasonCode): void {
    this.#finish(call, outcomeOfVerdict(continueWith(code)))
  }

  /**
   * Copies the request of a call that `screen` did not answer, and answers the call if the copy alone decides it. May
   * block in the container's memory.
   *
   * @returns false if the call must be served
   */
  read(call: Call): boolean {
    let outcome: Outcome | undefined
    try {
      const verdict = this.#read(call)
      if (verdict) outcome = call.left === STATE.acting ? UNKNOWN_OUTCOME : outcomeOfVerdict(verdict)
    } catch (error) {
      outcome = this.#faults.outcomeOf(error, call.slot)
    }
    if (!outcome) return false
    this.#finish(call, outcome)
    return true
  }

  /**
   * Serves a call that `read` did not answer. May block in file systems or locks of the container.
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
      outcome = this.#faults.outcomeOf(error, call.slot)
    }
    this.#finish(call, outcome)
    if (lost) throw new LostThread('Cannot use the thread again: it did not get home')
  }

  #screen(call: Call): Verdict | undefined {
    const { slot, container } = call
    const { view } = this.#slots
    const { barred } = container
    if (barred && barred !== 'hostUserns') return continueWith(barred)
    const handler = this.#route(call)
    if (!handler) return continueWith(barred ?? 'notServed')
    if (view.getUint32(slot + NOTIF.tid, true) === 0) return continueWith(barred ?? 'invisibleCaller')
    const verdict = handler.screen(this.#registers, container.policy)
    if (barred) return withoutCaller(verdict)
    if (isOff(verdict)) return off(container, handler)
    if (!verdict && handler.isInKernel?.() === false) return continueWith('callUnknown')
    return verdict && judgedBy(container.policy, verdict)
  }

  /** Finds the handler of a call, and moves the registers to its slot. */
  #route(call: Call): Syscall<unknown> | undefined {
    const { view } = this.#slots
    const { slot } = call
    const route = routes.get(view.getUint32(slot + NOTIF.arch, true))
    call.handler = route?.handlers[view.getInt32(slot + NOTIF.nr, true)]
    if (route) this.#registers.moveTo(slot, route.bits)
    return call.handler
  }

  #read(call: Call): Verdict | undefined {
    const { slot, container } = call
    const handler = this.#route(call)!
    const { memory } = this.#context
    const tid = this.#slots.view.getUint32(slot + NOTIF.tid, true) as Tid
    this.#replays.await(container, tid)
    memory.moveTo(tid)
    memory.texts.begin(this.#allTexts.get(handler.name) ?? NO_TEXTS, this.#registers)
    let verdict: Verdict | undefined
    try {
      call.request = handler.decode(this.#registers, memory, container.policy)
      verdict = handler.screenCopy?.(call.request)
    } catch (error) {
      verdict = verdictOfError(error)
    }
    return container.barred ? withoutCaller(verdict) : verdict && judgedBy(container.policy, verdict)
  }

  #serve(call: Call): Outcome {
    const { slot, listenerFd, container, left } = call
    const tid = this.#slots.view.getUint32(slot + NOTIF.tid, true) as Tid
    const notes = (note: bigint): void => this.#slots.view.setBigUint64(slot + SLOT.note, note, true)
    const waits = (): boolean => this.#end.answer.waits(listenerFd, slot)
    const again = left === STATE.acting ? this.#trace(slot) : undefined
    const thread = { tid, bits: this.#registers.bits }
    const caller = new NotifiedCaller(this.#context, container, thread, { waits, notes, noted: again?.note ?? 0n })
    // The try block does the work of `using`, whose compiled code costs a microsecond more.
    try {
      const decided = this.#decide(call, caller)
      // What an earlier engine has begun cannot be left to the kernel any more.
      const verdict = again ? decided : judgedBy(container.policy, decided)
      if (verdict.is !== 'act') return again ? UNKNOWN_OUTCOME : outcomeOfVerdict(verdict)
      call.isJudged = false
      call.replay = this.#replays.replayOf(verdict.act, caller, call, waits)
      const given = again && caller.given(again.note)
      this.#slots.setState(slot, STATE.acting)
      const effect = perform(verdict.act, caller, again && { ...again, given }, call.replay)
      // A result with a descriptor or with memory to write is not stored: the next engine can repeat such an act.
      if (!effect.fd && !effect.writes) this.#slots.settle(slot, effect.value, effect.errno ?? 0)
      return writeBack(effect, caller, verdict.why)
    } finally {
      caller[Symbol.dispose]()
    }
  }

  #decide(call: Call, caller: NotifiedCaller): Verdict {
    const { handler, request, container } = call
    const { barred, policy } = container
    try {
      const verdict = barred ? judgeOnHost(handler!.key, caller) : handler!.decide(request, caller, policy)
      call.isJudged = true
      return isOff(verdict) ? off(container, handler!) : verdict
    } catch (error) {
      return verdictOfError(error)
    }
  }

  #trace(slot: number): RecoveryTrace {
    const { view } = this.#slots
    return { since: view.getFloat64(slot + SLOT.since, true), note: view.getBigUint64(slot + SLOT.note, true) }
  }

  #finish(call: Call, found: Outcome): void {
    const isLoose = found.is === 'continue' && !call.isJudged && needsJudge(call.container, this.#slots.view, call.slot)
    const outcome: Outcome = isLoose ? { ...found, is: 'errno', errno: errno('EPERM') } : found
    const tid = this.#slots.view.getUint32(call.slot + NOTIF.tid, true) as Tid
    try {
      // What is not visible has a number of another pid namespace, which is somebody else's here.
      if (tid !== 0 && call.container.barred !== 'invisibleCaller') this.#look.look(call.container, tid, call.start)
      this.#end.finish(call, outcome, call.replay)
    } finally {
      // The next call has another caller, even if this one could not be answered.
      this.#context.callerName.end()
      this.#context.memory.texts.end()
    }
  }
}
