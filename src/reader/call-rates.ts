import { syscallName } from '../abi/syscalls.ts'
import type { CallCount } from '../memories/read-counts.ts'
import { type ContainerNames, namesOf } from './container-fields.ts'
import { quantile } from './container-view.ts'
import type { FeedReader } from './feed.ts'

/** How often a container makes a call: calls per second between two looks. */
export interface CallRate extends ContainerNames {
  readonly container: string
  /** The calls of the container that are being served now. */
  readonly inFlight: number
  /** Calls in flight that have taken longer than ten seconds. */
  readonly stuck: number
  /** "-" if calls are being served and none ended in that time. */
  readonly syscall: string
  readonly rate: number
  readonly done: number
  readonly left: number
  readonly errors: number
  /** Upper bounds in microseconds; undefined without calls in that time. */
  readonly p50: number | undefined
  readonly p99: number | undefined
}

interface Served extends ContainerNames {
  readonly inFlight: number
  readonly stuck: number
}

interface Counted {
  readonly container: string
  readonly syscall: string
  readonly calls: CallCount
}

/** All counts at one time, by container and kind of call. */
export interface CallSample {
  /** Milliseconds of a clock that does not jump. */
  readonly at: number
  readonly counts: ReadonlyMap<string, Counted>
  /** By id of the container. */
  readonly served: ReadonlyMap<string, Served>
}

/** Reads the counts of all containers that are served. @param at the time of this look, in milliseconds */
export function sampleCalls(feed: FeedReader, at: number): CallSample {
  const counts = new Map<string, Counted>()
  const served = new Map<string, Served>()
  for (const entry of feed.directory.briefContainers()) {
    const { id, index, serial } = entry
    const counted = feed.counts({ index: Number(index), serial: Number(serial) })
    if (!counted) continue
    const { inFlight, stuck } = counted
    served.set(String(id), { ...namesOf(entry), inFlight, stuck })
    for (const calls of counted.calls) {
      const { arch, nr, verdict, reason } = calls
      const syscall = nr < 0 ? 'others' : (syscallName(arch, nr) ?? `${nr}`)
      const key = [serial, arch, nr, verdict, reason].join(' ')
      counts.set(key, { container: String(id), syscall, calls })
    }
  }
  return { at, counts, served }
}

/**
 * Returns the rate of each call that was made between two looks, and containers that made none but have calls in
 * flight.
 *
 * @param isWhole whether to put all calls of a container together, under the name of one of them
 */
export function callRates(before: CallSample, after: CallSample, isWhole = false): readonly CallRate[] {
  const seconds = Math.max(0.001, (after.at - before.at) / 1000)
  const groups = new Map<string, Counted[]>()
  for (const [key, counted] of after.counts) {
    const calls = difference(counted.calls, before.counts.get(key)?.calls)
    const name = isWhole ? counted.container : `${counted.container} ${counted.syscall}`
    groups.set(name, [...(groups.get(name) ?? []), { ...counted, calls }])
  }
  const rates = [...groups.values()].map((group) => rateOf(group, seconds, after.served))
  const made = rates.filter(({ rate }) => rate > 0)
  const silent = [...after.served].filter(
    ([id, { inFlight }]) => inFlight > 0 && made.every(({ container }) => container !== id),
  )
  return [...made, ...silent.map(([container, served]) => ({ ...NOTHING, container, ...served }))]
}

const NOTHING = { syscall: '-', rate: 0, done: 0, left: 0, errors: 0, p50: undefined, p99: undefined } as const
/** The value for a container that is not there any more. */
const IDLE: Served = { inFlight: 0, stuck: 0 }

const difference = (after: CallCount, before: CallCount | undefined): CallCount =>
  before === undefined
    ? after
    : {
        ...after,
        calls: after.calls - before.calls,
        buckets: after.buckets.map((each, bucket) => each - before.buckets[bucket]!),
      }

function rateOf(group: readonly Counted[], seconds: number, served: CallSample['served']): CallRate {
  const { container, syscall } = group[0]!
  const calls = group.map((each) => each.calls)
  const rate = (verdict?: string): number =>
    calls
      .filter((each) => verdict === undefined || each.verdict === verdict)
      .reduce((sum, each) => sum + each.calls, 0) / seconds
  return {
    ...{
      container,
      ...(served.get(container) ?? IDLE),
      syscall,
      rate: rate(),
      done: rate('act'),
      left: rate('continue'),
      errors: rate('errno'),
    },
    ...{ p50: quantile(calls, 0.5), p99: quantile(calls, 0.99) },
  }
}
