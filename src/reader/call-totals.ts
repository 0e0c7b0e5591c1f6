import { syscallName } from '../abi/syscalls.ts'
import { WORDS } from '../calls/record.ts'
import { BOUNDS } from '../memories/counts-layout.ts'
import type { CallCount } from '../memories/read-counts.ts'
import type { FeedReader } from './feed.ts'

/** How often calls were made, or how long they took, for one set of labels. */
export interface CallTotal {
  readonly syscall: string
  readonly verdict: string
  readonly reason: string
  /** Empty for the sum of containers that are not named. */
  readonly container: string
  calls: number
  microseconds: number
  /** As in `CallCount`; empty if they are not wanted. */
  readonly buckets: number[]
}

/** The name of a call with an unknown number: a container chooses numbers. */
const OTHER = 'other'
const BUCKETS = BOUNDS.length + 1

/** Sums of calls by labels. */
class Sums {
  readonly all = new Map<string, CallTotal>()
  readonly #buckets: number

  /**
   * @param buckets how many buckets of durations to keep
   */
  constructor(buckets: number) {
    this.#buckets = buckets
  }

  /** @param reason empty to sum up over reasons */
  add({ arch, nr, verdict, ...counted }: CallCount, reason: string, container: string): void {
    const syscall = (nr < 0 ? undefined : syscallName(arch, nr)) ?? OTHER
    const key = `${syscall} ${verdict} ${reason} ${container}`
    let total = this.all.get(key)
    if (!total) {
      const buckets = new Array<number>(this.#buckets).fill(0)
      total = { syscall, verdict: WORDS[verdict], reason, container, calls: 0, microseconds: 0, buckets }
      this.all.set(key, total)
    }
    total.calls += counted.calls
    total.microseconds += counted.microseconds
    for (let bucket = 0; bucket < this.#buckets; bucket++) total.buckets[bucket]! += counted.buckets[bucket]!
  }
}

export interface AllCalls {
  /** By call, verdict, reason and, if it is asked for, container. */
  readonly totals: Iterable<CallTotal>
  /** By call and verdict. */
  readonly durations: Iterable<CallTotal>
  readonly inFlight: number
}

/**
 * Sums up all calls that were ever counted.
 *
 * @param names names a container by its serial; undefined if containers are not to be told apart. Then those that have
 *   ended count too, so that no sum shrinks
 * @param limit the most series that may name containers; in further series the container is "other"
 */
export const allCalls = (feed: FeedReader, names: ReadonlyMap<number, string> | undefined, limit: number): AllCalls =>
  feed.allCounts(({ containers, ended }) => {
    const [totals, durations] = [new Sums(0), new Sums(BUCKETS)]
    let inFlight = 0
    const add = (calls: readonly CallCount[], container: string): void => {
      for (const counted of calls) totals.add(counted, counted.reason, container)
      for (const counted of calls) durations.add(counted, '', '')
    }
    for (const { serial, inFlight: now, calls } of containers) {
      inFlight += now
      const isNamed = names !== undefined && totals.all.size + calls.length <= limit
      add(calls, names === undefined ? '' : isNamed ? (names.get(serial) ?? OTHER) : OTHER)
    }
    if (names === undefined) add(ended, '')
    else for (const counted of ended) durations.add(counted, '', '')
    return { totals: totals.all.values(), durations: durations.all.values(), inFlight }
  })
