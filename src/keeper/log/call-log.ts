import { type CallRecord, callerOf } from '../../calls/record.ts'
import { isRefusal } from '../../calls/refusal.ts'
import type { LogLevel } from '../../policy/config.ts'
import { CallKinds, callName, describeKind } from './call-kinds.ts'

/** Shortest time between two log lines for calls of the same kind. */
const QUIET_MS = 60_000
/** Limit for one container: it bounds the memory that a container can make the keeper use. */
const KINDS_LIMIT = 256
/**
 * Limits of the lines of one container in QUIET_MS: what is more is counted. Calls that were done have lines of their
 * own, so that none of them goes unsaid for a flood of others. Lines of programs are long.
 */
const LINES_LIMITS = { done: 64, others: 256, programs: 16 } as const
/** Limit of the names by which lines are counted: a call without a name has its number, of which there are many. */
const NAMES_LIMIT = 64
const OTHERS = 'others'

interface KindLines {
  readonly name: string
  /** When the last line was written; undefined if none was. */
  last: number | undefined
  suppressed: number
}

export interface CallLine {
  readonly level: LogLevel
  readonly message: string
}

/** What else is to be said of a call in a container. */
type More = (record: CallRecord, container: string) => Readonly<Record<string, unknown>>
type Write = (container: string, details: Readonly<Record<string, unknown>>, line: CallLine) => void

/** Tells whether `time` is in the minute after `start`. A time before `start` is not: the clock was set back. */
export const isWithin = (time: number, start: number): boolean => time >= start && time < start + QUIET_MS

/** Lines of one sort of one container: so many a minute, and how many were left out, by name. */
class Lines {
  readonly #limit: number
  readonly #left = new Map<string, number>()
  #lines = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  begin(): void {
    this.#lines = 0
  }

  /** Takes one of the lines of this minute. @returns false if there is none left */
  take(): boolean {
    const isLeft = this.#lines < this.#limit
    if (isLeft) this.#lines++
    return isLeft
  }

  count(name: string, lines: number): void {
    if (lines === 0) return
    const known = this.#left.has(name) || this.#left.size < NAMES_LIMIT ? name : OTHERS
    this.#left.set(known, (this.#left.get(known) ?? 0) + lines)
  }

  /** @returns how many were left out since this was called last */
  leftOut(): Readonly<Record<string, number>> | undefined {
    if (this.#left.size === 0) return undefined
    const left = Object.fromEntries(this.#left)
    this.#left.clear()
    return left
  }
}

/** Calls of one container that were done, or those that were not. */
class Calls {
  readonly lines: Lines
  readonly #kinds: CallKinds<KindLines>

  constructor(limit: number) {
    this.lines = new Lines(limit)
    this.#kinds = new CallKinds<KindLines>(
      KINDS_LIMIT,
      (record) => ({ name: callName(record), last: undefined, suppressed: 0 }),
      ({ name, suppressed }) => this.lines.count(name, suppressed),
    )
  }

  /** @returns what was said of the kind of a call, if it has a line now */
  take(record: CallRecord): KindLines | undefined {
    const kind = this.#kinds.kindOf(record)
    if (kind.last !== undefined && isWithin(record.time, kind.last)) kind.suppressed++
    else if (this.lines.take()) return kind
    else {
      this.lines.count(kind.name, kind.suppressed + 1)
      kind.suppressed = 0
    }
    return undefined
  }

  end(): void {
    for (const { name, suppressed } of this.#kinds.all) this.lines.count(name, suppressed)
  }
}

/** Numbers of lines that were left out, by what they would have been about. */
type LeftOut = Readonly<Record<string, Readonly<Record<string, number>>>>

/** What is said of one container, since its lines were counted last. */
class ContainerCalls {
  readonly #done = new Calls(LINES_LIMITS.done)
  readonly #others = new Calls(LINES_LIMITS.others)
  readonly #programs = new Lines(LINES_LIMITS.programs)
  #start = 0

  isOver(time: number): boolean {
    return !isWithin(time, this.#start)
  }

  /** Begins a minute. @returns what had no line in the minute before; undefined if there is nothing */
  begin(time: number): LeftOut | undefined {
    this.#start = time
    for (const lines of [this.#done.lines, this.#others.lines, this.#programs]) lines.begin()
    return this.#leftOut()
  }

  take(record: CallRecord): KindLines | undefined {
    return (record.verdict === 'act' ? this.#done : this.#others).take(record)
  }

  takeProgram(name: string): boolean {
    if (this.#programs.take()) return true
    this.#programs.count(name, 1)
    return false
  }

  /** @returns all that was not said so far */
  end(): LeftOut | undefined {
    this.#done.end()
    this.#others.end()
    return this.#leftOut()
  }

  #leftOut(): LeftOut | undefined {
    const [done, others, programs] = [
      this.#done.lines.leftOut(),
      this.#others.lines.leftOut(),
      this.#programs.leftOut(),
    ]
    if (!done && !others && !programs) return undefined
    return {
      ...(others ? { leftOut: others } : {}),
      ...(done ? { leftOutDone: done } : {}),
      ...(programs ? { leftOutPrograms: programs } : {}),
    }
  }
}

/**
 * Logs calls: at most one line a minute for each container, call and reason, with the number of suppressed calls, and
 * at most LINES_LIMITS lines a minute for each container. No call goes unsaid: what has no line is counted, and the
 * numbers are said in a line of the next minute, or when the container ends.
 */
export class CallLog {
  readonly #write: Write
  readonly #more: More
  readonly #containers = new Map<string, ContainerCalls>()

  constructor(write: Write, more: More = () => ({})) {
    this.#write = write
    this.#more = more
  }

  /** @returns false if the call has no line of its own */
  add(record: CallRecord, container: string): boolean {
    const { time, verdict } = record
    const kind = this.#callsOf(container, time).take(record)
    if (!kind) return false
    const since = kind.suppressed ? { since: kind.suppressed } : {}
    const details = {
      syscall: kind.name,
      verdict,
      ...describeKind(record),
      ...callerOf(record),
      ...this.#more(record, container),
      ...since,
    }
    kind.last = time
    kind.suppressed = 0
    this.#write(container, details, { level: isRefusal(record) ? 'notice' : 'info', message: 'call' })
    return true
  }

  /** Tells whether the failure of a program in a container has a line; else it is counted. */
  takesProgram(container: string, program: string, time: number): boolean {
    return this.#callsOf(container, time).takeProgram(program)
  }

  #callsOf(container: string, time: number): ContainerCalls {
    const calls = this.#containers.get(container) ?? new ContainerCalls()
    this.#containers.set(container, calls)
    if (calls.isOver(time)) this.#count(container, calls.begin(time))
    return calls
  }

  /** Says what was left out of minutes that are over. To be called once a second. */
  look(time: number): void {
    for (const [container, calls] of this.#containers) if (calls.isOver(time)) this.#count(container, calls.begin(time))
  }

  /** Says what was not said so far of a container that has ended. */
  forget(container: string): void {
    this.#count(container, this.#containers.get(container)?.end())
    this.#containers.delete(container)
  }

  /** Says what was not said so far of all containers. */
  close(): void {
    for (const container of [...this.#containers.keys()]) this.forget(container)
  }

  #count(container: string, leftOut: LeftOut | undefined): void {
    if (leftOut) this.#write(container, leftOut, { level: 'notice', message: 'calls without a line of their own' })
  }
}
