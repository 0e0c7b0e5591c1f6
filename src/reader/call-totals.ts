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
  readonly buckets: number[]
}

/** What is left of a call whose number nobody knows: a container chooses numbers. */
const OTHER = 'other'
const BUCKETS = BOUNDS.length + 1

/** Sums of calls by labels. */
class Sums {
  readonly all = new Map<string, CallTotal>()

  /** @param reason empty to sum up over reasons */
  add({ arch, nr, verdict, ...counted }: CallCount, reason: string, container: string): void {
    const syscall = (nr < 0 ? undefined : syscallName(arch, nr)) ?? OTHER
    const key = `${syscall} ${verdict} ${reason} ${container}`
    let total = this.all.get(key)
    if (!total) {
      const buckets = new Array<number>(BUCKETS).fill(0)
      total = { syscall, verdict: WORDS[verdict], reason, container, calls: 0, microseconds: 0, buckets }
      this.all.set(key, total)
    }
    total.calls += counted.calls
    total.microseconds += counted.microseconds
    for (let bucket = 0; bucket < BUCKETS; bucket++) total.buckets[bucket]! += counted.buckets[bucket]!
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
 * @param limit so many series may name containers; of what comes after these, the container is "other"
 */
export function allCalls(feed: FeedReader, names: ReadonlyMap<number, string> | undefined, limit: number): AllCalls {
  const [totals, durations] = [new Sums(), new Sums()]
  let inFlight = 0
  const { containers, ended } = feed.allCounts()
  for (const { serial, inFlight: now, calls } of containers) {
    inFlight += now
    const isNamed = names !== undefined && totals.all.size + calls.length <= limit
    const container = names === undefined ? '' : isNamed ? (names.get(serial) ?? OTHER) : OTHER
    for (const counted of calls) totals.add(counted, counted.reason, container)
    for (const counted of calls) durations.add(counted, '', '')
  }
  for (const counted of ended) {
    if (names === undefined) totals.add(counted, counted.reason, '')
    durations.add(counted, '', '')
  }
  return { totals: totals.all.values(), durations: durations.all.values(), inFlight }
}
