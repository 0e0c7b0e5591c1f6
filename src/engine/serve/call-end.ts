import type { Tid } from '../../abi/brand.ts'
import { NOTIF } from '../../abi/seccomp.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { CallerName } from '../../caller/task/proc-access.ts'
import type { Act } from '../../calls/act.ts'
import type { Reason } from '../../calls/reasons.ts'
import type { CallRecord, RecordedArguments, RecordTexts } from '../../calls/record.ts'
import type { Syscall } from '../../calls/syscall.ts'
import { now } from '../../kernel/clock.ts'
import type { Handle } from '../../kernel/fd.ts'
import { Answer } from '../../link/answer.ts'
import { type Slots, STATE } from '../../link/journal.ts'
import type { CountWriter } from '../../memories/count-writer.ts'
import type { RecordWriter } from '../../memories/records.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { LxcProxyCall } from '../lxc/lxc-proxy.ts'
import type { Replay } from '../replay/replay.ts'
import { type Outcome, outcomeOfError } from './outcome.ts'

interface Received {
  /** Offset in the journal, in bytes. */
  readonly slot: number
  /** The listener's descriptor; for a forwarded call, the one that LXC's monitor has sent. */
  readonly listenerFd: number
  readonly container: Container
  /** `now()` when the call was received, in milliseconds. */
  readonly start: number
  /** Set if a monitor of LXC received the call: the monitor waits for a reply after the caller's answer. */
  readonly forwarded?: LxcProxyCall | undefined
  /** Set if an earlier engine received the call: the state, of `STATE`, in which that engine left the slot. */
  readonly left?: number | undefined
  /** Engines have failed while they served this call. */
  readonly isPoison?: boolean | undefined
}

/** A call that its thread has received, with what each step of the server finds out for the next step. */
export interface Call extends Received {
  /** From `Server.screen` or `read` on: undefined if the call is not served. */
  handler: Syscall<unknown> | undefined
  /** From `Server.read` on: the copy of what the caller asks. */
  request: unknown
  /** Whether the handler has decided on the call, and nothing has failed since. */
  isJudged: boolean
  /** From the beginning of the act on, if it must not be done twice. */
  replay: Replay<Act> | undefined
}

/**
 * All members are written one by one: V8 compiles their users for one shape, and takes 40 times as long, 3 us and more,
 * for `{ ...received, handler }`, where members follow a spread (Node 20).
 */
export const receivedCall = ({ slot, listenerFd, container, start, forwarded, left, isPoison }: Received): Call => ({
  slot,
  listenerFd,
  container,
  start,
  forwarded,
  left,
  isPoison,
  handler: undefined,
  request: undefined,
  isJudged: false,
  replay: undefined,
})

/** Returns whether the handler of a screened call is declared brief. */
export const isBrief = ({ handler }: Call): boolean => handler?.brief === true

/** Returns whether `Server.read` may answer a screened call. */
export const readsFirst = ({ handler }: Call): boolean => handler?.screenCopy !== undefined

/** Returns whether a screened call is most likely answered at once. */
export const isQuick = (call: Call): boolean => isBrief(call) || readsFirst(call)

/** The memories into which outcomes are written. */
export interface OutcomeWriters {
  readonly records: RecordWriter
  readonly counts: CountWriter
  /** How much of the arguments is recorded. */
  readonly mode: ArgumentMode
}

/**
 * Ends calls: sends the answer, writes the record, counts the call and frees its slot.
 *
 * Precondition: each thread has its own `CallEnd`, and passes only calls whose slots belong to that thread.
 */
export class CallEnd {
  readonly answer: Answer
  readonly #slots: Slots
  readonly #records: RecordWriter
  readonly #counts: CountWriter
  readonly #texts: RecordTexts
  readonly #args: RecordedArguments
  readonly #caller: CallerName

  /**
   * @param texts the texts of the call's arguments @param caller the name of the caller
   */
  constructor(slots: Slots, { records, counts, mode }: OutcomeWriters, texts: RecordTexts, caller: CallerName) {
    this.#slots = slots
    this.#records = records
    this.#counts = counts
    this.#texts = texts
    this.#caller = caller
    this.#args = { registers: mode === 'none' ? undefined : slots.words, from: 0, texts, caller }
    this.answer = new Answer(slots.view)
  }

  finish(call: Call, outcome: Outcome, replay?: Replay<Act>): void {
    const { slot } = call
    const { is, errno, why } = outcome
    let delivered: boolean
    try {
      delivered = replay ? replay.answer(() => this.#send(call, outcome)) : this.#send(call, outcome)
    } catch (error) {
      // The caller's descriptor table is full (EMFILE): no answer was sent, and the call still waits.
      if (!outcome.fd) throw error
      outcome.sent?.(undefined)
      this.finish(call, outcomeOfError(error))
      return
    }
    call.forwarded?.reply(outcome, delivered)
    this.record(call, is, errno, delivered ? why : { code: 'gone' }, delivered)
    this.#slots.setState(slot, STATE.free)
  }

  /** Sends the answer. @returns whether the call still waited */
  #send({ slot, listenerFd, container }: Call, { is, errno, value, fd, cloexec, replaces, sent }: Outcome): boolean {
    if (is === 'continue') return this.answer.continue(listenerFd, slot)
    if (errno !== 0) return this.answer.errno(listenerFd, slot, errno)
    if (!fd) {
      const delivered = this.answer.value(listenerFd, slot, value)
      if (delivered) sent?.(Number(value))
      return delivered
    }
    using passed = fd
    if (replaces !== undefined) {
      const replaced = this.#replace(listenerFd, slot, passed, replaces, value)
      if (replaced) sent?.(replaces)
      return replaced
    }
    const number = this.#give(listenerFd, slot, container, passed, cloexec === true)
    sent?.(number)
    return number !== undefined
  }

  /**
   * Gives the caller a descriptor as the result of its call, in one step or in two.
   *
   * One step (SECCOMP_ADDFD_FLAG_SEND) is exact if a signal cancels the call. But if this thread is stopped, frozen or
   * killed before the caller has installed the descriptor, the call returns 0 without a descriptor, since
   * kernel/seccomp.c seccomp_notify_addfd() takes back the descriptor and not the answer. Two steps (ADDFD, then SEND)
   * are exact whatever happens to this thread, but only where no signal can cancel the call: under
   * SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
   *
   * @param fd closed here: a mount whose descriptor we still held when the caller goes on could not be unmounted
   * @returns the number in the caller's table; undefined if the call no longer waits
   */
  #give(listener: number, slot: number, container: Container, fd: Handle, cloexec: boolean): number | undefined {
    const isAnswer = !container.waitKillable
    const number = this.answer.descriptor(listener, slot, fd, { cloexec, isAnswer })
    // At once: an engine that ends before gives another descriptor.
    if (number !== undefined && !isAnswer) this.#slots.settle(slot, BigInt(number), 0)
    fd[Symbol.dispose]()
    if (number === undefined || isAnswer) return number
    return this.answer.value(listener, slot, BigInt(number)) ? number : undefined
  }

  #replace(listenerFd: number, slot: number, fd: Handle, replaces: number, value: bigint): boolean {
    const number = this.answer.descriptor(listenerFd, slot, fd, { cloexec: true, replaces })
    fd[Symbol.dispose]()
    return number !== undefined && this.answer.value(listenerFd, slot, value)
  }

  record(
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
    // Name and texts may be another task's: the caller may not have waited any more when they were read.
    if (!delivered) {
      this.#caller.end()
      this.#texts.end()
    }
    this.#records.write(record, this.#args)
    this.#counts.count(record, this.#args)
    this.#texts.end()
  }
}
