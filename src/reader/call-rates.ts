import { syscallName } from '../abi/syscalls.ts'
import type { CallCount } from '../memories/read-counts.ts'
import { quantile } from './container-view.ts'
import type { FeedReader } from './feed.ts'

/** How often a call was made in a container, in a second of the time between two looks. */
export interface CallRate {
  readonly container: string
  /** The calls of the container that are being served now. */
  readonly inFlight: number
  readonly syscall: string
  readonly rate: number
  readonly done: number
  readonly left: number
  readonly errors: number
  /** Upper bounds in microseconds; undefined without calls in that time. */
  readonly p50: number | undefined
  readonly p99: number | undefined
}

interface Counted {
  readonly container: string
  readonly inFlight: number
  readonly syscall: string
  readonly calls: CallCount
}

/** All counts at one time, by container and kind of call. */
export interface CallSample {
  /** Milliseconds of a clock that does not jump. */
  readonly at: number
  readonly counts: ReadonlyMap<string, Counted>
}

/** Reads the counts of all containers that are served. @param at the time of this look, in milliseconds */
export function sampleCalls(feed: FeedReader, at: number): CallSample {
  const counts = new Map<string, Counted>()
  for (const { id, index, serial } of feed.directory.containers) {
    const counted = feed.counts({ index: Number(index), serial: Number(serial) })
    for (const calls of counted?.calls ?? []) {
      const { arch, nr, verdict, reason } = calls
      const syscall = nr < 0 ? 'others' : (syscallName(arch, nr) ?? `${nr}`)
      const key = [serial, arch, nr, verdict, reason].join(' ')
      counts.set(key, { container: String(id), inFlight: counted!.inFlight, syscall, calls })
    }
  }
  return { at, counts }
}

/** Returns how often each call was made between two looks, but those that never were. */
export function callRates(before: CallSample, after: CallSample): readonly CallRate[] {
  const seconds = Math.max(0.001, (after.at - before.at) / 1000)
  const groups = new Map<string, Counted[]>()
  for (const [key, counted] of after.counts) {
    const calls = difference(counted.calls, before.counts.get(key)?.calls)
    const name = `${counted.container} ${counted.syscall}`
    groups.set(name, [...(groups.get(name) ?? []), { ...counted, calls }])
  }
  return [...groups.values()].map((group) => rateOf(group, seconds)).filter(({ rate }) => rate > 0)
}

const difference = (after: CallCount, before: CallCount | undefined): CallCount =>
  before === undefined
    ? after
    : {
        ...after,
        calls: after.calls - before.calls,
        buckets: after.buckets.map((each, bucket) => each - before.buckets[bucket]!),
      }

function rateOf(group: readonly Counted[], seconds: number): CallRate {
  const { container, inFlight, syscall } = group[0]!
  const calls = group.map((each) => each.calls)
  const rate = (verdict?: string): number =>
    calls
      .filter((each) => verdict === undefined || each.verdict === verdict)
      .reduce((sum, each) => sum + each.calls, 0) / seconds
  return {
    ...{ container, inFlight, syscall, rate: rate(), done: rate('act'), left: rate('continue'), errors: rate('errno') },
    ...{ p50: quantile(calls, 0.5), p99: quantile(calls, 0.99) },
  }
}
