import type { Tid } from '../../abi/brand.ts'
import { NOTIF } from '../../abi/seccomp.ts'
import type { CallerName } from '../../caller/task/caller-name.ts'
import type { Act } from '../../calls/act.ts'
import type { Reason } from '../../calls/reason.ts'
import type { CallRecord, RecordedArguments } from '../../calls/record.ts'
import type { RecordTexts } from '../../calls/record-texts.ts'
import { STATE } from '../../calls/slot.ts'
import { now } from '../../kernel/clock.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { CountWriter } from '../../memories/count-writer.ts'
import type { RecordWriter } from '../../memories/records.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { Slots } from '../journal/slots.ts'
import type { Replay } from '../replay/replay.ts'
import { Answer } from './answer.ts'
import type { Call } from './call.ts'
import { FdAnswer } from './fd-answer.ts'
import { type Outcome, outcomeOfError } from './outcome.ts'

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
  readonly #fdAnswer: FdAnswer
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
    this.#fdAnswer = new FdAnswer(this.answer, slots)
  }

  /**
   * @param replay the replay of the call's act
   */
  finish(call: Call, outcome: Outcome, replay?: Replay<Act>): void {
    const { slot } = call
    const { is, errno, why } = outcome
    let delivered: boolean
    try {
      delivered = replay ? replay.answer(() => this.#send(call, outcome)) : this.#send(call, outcome)
    } catch (error) {
      // The caller's descriptor table is full (EMFILE): no answer was sent, and the call still waits.
      if (!outcome.fd) throw error
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
    const number = this.#fdAnswer.give(listenerFd, slot, container, passed, cloexec === true)
    if (number !== undefined) sent?.(number)
    return number !== undefined
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
    // The name may be another task's: the caller no longer waited when the name was read.
    if (!delivered) this.#caller.end()
    this.#records.write(record, this.#args)
    this.#counts.count(record, this.#args)
    this.#texts.end()
  }
}
