import { type CallRecord, callerOf, isRefusal, WORDS } from '../../calls/record.ts'
import type { LogLevel } from '../../policy/config.ts'
import { CallKinds, callName, describeKind } from './call-kinds.ts'

/** The shortest time between two log lines for calls of the same kind. */
const QUIET_MS = 60_000
/** The most kinds of one container: limits the memory that a container can make the keeper use. */
const KINDS_LIMIT = 256
/**
 * The most lines of one container in QUIET_MS; further ones are counted. Done calls have their own limit, so that a
 * flood of others does not hide them. Lines about programs are long.
 */
const LINES_LIMITS = { done: 64, others: 256, programs: 16 } as const
/** The most names by which lines are counted: a call without a name has its number, and there are many numbers. */
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

/** Further fields of the line about a call in a container. */
type More = (record: CallRecord, container: string) => Readonly<Record<string, unknown>>
type Write = (container: string, details: Readonly<Record<string, unknown>>, line: CallLine) => void

/** Returns whether `time` is in the minute after `start`. A time before `start` is not: then the clock was set back. */
const isWithin = (time: number, start: number): boolean => time >= start && time < start + QUIET_MS

/** The lines of one sort of one container: a limited number each minute, and by name how many were dropped. */
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

  /**
   * @returns how many were dropped since the last call
   */
  leftOut(): Readonly<Record<string, number>> | undefined {
    if (this.#left.size === 0) return undefined
    const left = Object.fromEntries(this.#left)
    this.#left.clear()
    return left
  }
}

/** The calls of one container that were done, or those that were not. */
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

  /**
   * @returns the log entry of a call's kind, if the call gets a line now
   */
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

/** Numbers of dropped lines, by subject. */
type LeftOut = Readonly<Record<string, Readonly<Record<string, number>>>>

/** The lines of one container since the last count. */
class ContainerCalls {
  readonly #done = new Calls(LINES_LIMITS.done)
  readonly #others = new Calls(LINES_LIMITS.others)
  readonly #programs = new Lines(LINES_LIMITS.programs)
  /** All lines, by the names under which those that were dropped are counted. */
  readonly #lines = { leftOut: this.#others.lines, leftOutDone: this.#done.lines, leftOutPrograms: this.#programs }
  #start = 0

  isOver(time: number): boolean {
    return !isWithin(time, this.#start)
  }

  /** Begins a minute. @returns what had no line in the previous minute; undefined if there is nothing */
  begin(time: number): LeftOut | undefined {
    this.#start = time
    for (const lines of Object.values(this.#lines)) lines.begin()
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

  /**
   * @returns everything that was not logged so far
   */
  end(): LeftOut | undefined {
    this.#done.end()
    this.#others.end()
    return this.#leftOut()
  }

  #leftOut(): LeftOut | undefined {
    const left = Object.entries(this.#lines).flatMap(([name, lines]) => {
      const count = lines.leftOut()
      return count ? [[name, count] as const] : []
    })
    return left.length > 0 ? Object.fromEntries(left) : undefined
  }
}

/**
 * Logs calls: at most one line a minute for each container, call and reason, with the number of suppressed calls, and
 * at most LINES_LIMITS lines a minute for each container. Every call is reported: calls without a line are counted, and
 * a line in the next minute, or at the end of the container, has the numbers.
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
      verdict: WORDS[verdict],
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

  /** Returns whether the failure of a program in a container gets a line; otherwise it is counted. */
  takesProgram(container: string, program: string, time: number): boolean {
    return this.#callsOf(container, time).takeProgram(program)
  }

  #callsOf(container: string, time: number): ContainerCalls {
    const calls = this.#containers.get(container) ?? new ContainerCalls()
    this.#containers.set(container, calls)
    if (calls.isOver(time)) this.#count(container, calls.begin(time))
    return calls
  }

  /** Logs what was dropped in past minutes. To be called once a second. */
  look(time: number): void {
    for (const [container, calls] of this.#containers) if (calls.isOver(time)) this.#count(container, calls.begin(time))
  }

  /** Logs what was not logged so far about an ended container. */
  forget(container: string): void {
    this.#count(container, this.#containers.get(container)?.end())
    this.#containers.delete(container)
  }

  /** Logs what was not logged so far about all containers. */
  close(): void {
    for (const container of [...this.#containers.keys()]) this.forget(container)
  }

  #count(container: string, leftOut: LeftOut | undefined): void {
    if (leftOut) this.#write(container, leftOut, { level: 'notice', message: 'calls without a line of their own' })
  }
}

/** How often a minute the same message passes: several sockets or runtimes may cause the same one. */
const SAME = 4

/**
 * Lets only a few refusals of hand-overs and orders through: each message a few times a minute, and a limited number in
 * all. It counts the others. A runtime that keeps failing causes the same message for ever.
 */
export class FewRefusals {
  readonly #limit: number
  readonly #said = new Map<string, number>()
  #lines = 0
  #start = Number.NEGATIVE_INFINITY
  #left = 0

  /**
   * @param limit how many pass in a minute
   */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** @returns false if the refusal is counted only */
  take(message: string, time: number): boolean {
    if (!isWithin(time, this.#start)) {
      this.#start = time
      this.#said.clear()
      this.#lines = 0
    }
    const said = this.#said.get(message) ?? 0
    if (said >= SAME || this.#lines >= this.#limit) {
      this.#left++
      return false
    }
    this.#said.set(message, said + 1)
    this.#lines++
    return true
  }

  /** Returns how many were only counted, after their minute. To be called once a second. */
  leftOut(time: number): number {
    return isWithin(time, this.#start) ? 0 : this.rest()
  }

  /** Returns how many were only counted so far. */
  rest(): number {
    const left = this.#left
    this.#left = 0
    return left
  }
}
