import type { CallRecord } from '../../calls/record.ts'
import type { LogLevel } from '../../policy/config.ts'
import { CallKinds, callName, describeKind, isRefusal } from './call-kinds.ts'

/** Shortest time between two log lines for calls of the same kind. */
const QUIET_MS = 60_000
/** Limit for one container: it bounds the memory that a container can make the keeper use. */
const KINDS_LIMIT = 256
/** Limit of the lines of one container in QUIET_MS: what is more is counted. */
const LINES_LIMIT = 256
/** Limit of the names by which calls are counted: a call without a name has its number, of which there are many. */
const NAMES_LIMIT = 64
const OTHERS = 'others'

interface Said {
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
const isWithin = (time: number, start: number): boolean => time >= start && time < start + QUIET_MS

/** The calls of one container, since its lines were counted last. */
class ContainerCalls {
  readonly #kinds = new CallKinds<Said>(
    KINDS_LIMIT,
    (record) => ({ name: callName(record), last: undefined, suppressed: 0 }),
    ({ name, suppressed }) => this.#count(name, suppressed),
  )
  readonly #left = new Map<string, number>()
  #start = 0
  #lines = 0

  /** Finds what was said of the kind of a call. */
  kindOf(record: CallRecord): Said {
    return this.#kinds.of(record)
  }

  isOver(time: number): boolean {
    return !isWithin(time, this.#start)
  }

  /** Begins a minute. @returns the calls of the minute before that had no line, by name; undefined if there are none */
  begin(time: number): Readonly<Record<string, number>> | undefined {
    this.#start = time
    this.#lines = 0
    return this.#take()
  }

  /** Takes one of the lines of this minute. @returns false if there is none left: the calls are counted instead */
  takesLine(kind: Said): boolean {
    if (this.#lines < LINES_LIMIT) {
      this.#lines++
      return true
    }
    this.#count(kind.name, kind.suppressed + 1)
    kind.suppressed = 0
    return false
  }

  /** @returns all calls that were not said so far, by name */
  end(): Readonly<Record<string, number>> | undefined {
    for (const { name, suppressed } of this.#kinds.all) this.#count(name, suppressed)
    return this.#take()
  }

  #count(name: string, calls: number): void {
    if (calls === 0) return
    const known = this.#left.has(name) || this.#left.size < NAMES_LIMIT ? name : OTHERS
    this.#left.set(known, (this.#left.get(known) ?? 0) + calls)
  }

  #take(): Readonly<Record<string, number>> | undefined {
    if (this.#left.size === 0) return undefined
    const calls = Object.fromEntries(this.#left)
    this.#left.clear()
    return calls
  }
}

/**
 * Logs calls: at most one line a minute for each container, call and reason, with the number of suppressed calls, and
 * at most LINES_LIMIT lines a minute for each container. No call goes unsaid: what has no line is counted, and the
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

  add(record: CallRecord, container: string): void {
    const { time, verdict } = record
    const calls = this.#containers.get(container) ?? new ContainerCalls()
    this.#containers.set(container, calls)
    if (calls.isOver(time)) this.#count(container, calls.begin(time))
    const kind = calls.kindOf(record)
    if (kind.last !== undefined && isWithin(time, kind.last)) {
      kind.suppressed++
      return
    }
    if (!calls.takesLine(kind)) return
    const since = kind.suppressed ? { since: kind.suppressed } : {}
    const details = { syscall: kind.name, verdict, ...describeKind(record), ...this.#more(record, container), ...since }
    kind.last = time
    kind.suppressed = 0
    this.#write(container, details, { level: isRefusal(record) ? 'notice' : 'info', message: 'call' })
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

  #count(container: string, leftOut: Readonly<Record<string, number>> | undefined): void {
    if (leftOut) this.#write(container, { leftOut }, { level: 'notice', message: 'calls without a line of their own' })
  }
}
