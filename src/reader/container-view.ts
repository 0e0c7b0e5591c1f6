import type { VerdictName } from '../calls/record.ts'
import { BOUNDS } from '../memories/counts-layout.ts'
import type { CallCount, ContainerCounts, WhichRefusals } from '../memories/read-counts.ts'
import { type RefusalView, refusalView } from '../memories/refusal-view.ts'
import { type ContainerView, viewOf } from './container-fields.ts'
import type { Entry } from './directory-reader.ts'
import { type EngineNames, type EngineNamesLookup, engineNamesLookup } from './engine-names.ts'
import type { FeedReader } from './feed.ts'

/** Returns the upper bound of the bucket that contains the given quantile of all calls; undefined without calls. */
export function quantile(calls: readonly Pick<CallCount, 'buckets'>[], part: number): number | undefined {
  const sums = new Array<number>(BOUNDS.length + 1).fill(0)
  let all = 0
  for (const { buckets } of calls) {
    for (let bucket = 0; bucket < sums.length; bucket++) {
      sums[bucket]! += buckets[bucket]!
      all += buckets[bucket]!
    }
  }
  if (all === 0) return undefined
  let bucket = 0
  for (let seen = sums[0]!; seen < part * all; seen += sums[bucket]!) bucket++
  return BOUNDS[bucket] ?? Number.POSITIVE_INFINITY
}

type Counted = Pick<CallCount, 'verdict' | 'calls'>

function byVerdict(counted: readonly Counted[]): Readonly<Record<VerdictName, number>> {
  const sums = { continue: 0, errno: 0, act: 0, gone: 0 }
  for (const { verdict, calls } of counted) sums[verdict] += calls
  return sums
}

function view(about: Entry, names: EngineNames | undefined, counts: ContainerCounts | undefined): ContainerView {
  const refusals = counts?.refusals.map(refusalView) ?? ((about.refusals ?? []) as readonly RefusalView[])
  return viewOf({
    about,
    names,
    counts,
    byVerdict: byVerdict(counts?.calls ?? ((about.calls ?? []) as readonly Counted[])),
    p50: quantile(counts?.calls ?? [], 0.5),
    refusals: [...refusals].sort((one, other) => other.time - one.time),
  })
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const number = (value: unknown): number => (typeof value === 'number' ? value : 0)

const namesOf = ({ id, bundle, name }: Entry, lookup: EngineNamesLookup): EngineNames | undefined =>
  name === undefined ? lookup(text(id), text(bundle)) : undefined

/**
 * Returns the containers of a daemon.
 *
 * @param all whether to include recently ended containers
 * @param which which refusals of each to read; with all of them, reading a thousand containers takes twice the time
 */
export const containersOf = (feed: FeedReader, all = false, which: WhichRefusals = 'all'): readonly ContainerView[] => [
  ...eachContainer(feed, all, which),
]

/**
 * Yields them one after the other, for callers that keep only a part of each.
 *
 * @param about the entries of the directory
 */
export function* eachContainer(
  feed: FeedReader,
  all: boolean,
  which: WhichRefusals,
  about: 'brief' | 'whole' = which === 'last' ? 'brief' : 'whole',
): Generator<ContainerView> {
  const { directory } = feed
  const lookup = engineNamesLookup()
  for (const entry of about === 'brief' ? directory.briefContainers() : directory.containers) {
    const counts = feed.counts({ index: number(entry.index), serial: number(entry.serial) }, which)
    yield view(entry, namesOf(entry, lookup), counts)
  }
  if (!all) return
  for (const entry of directory.ring('ended')) yield view(entry, namesOf(entry, lookup), undefined)
}

/** Returns the detail of a container from a list; undefined if the container has gone meanwhile. */
export function wholeContainer(feed: FeedReader, { about, serial }: ContainerView): ContainerView | undefined {
  const index = number(about.index)
  const served = about.ended === undefined ? feed.directory.container(index) : undefined
  const entry =
    served?.serial === serial ? served : feed.directory.ring('ended').find((ended) => ended.serial === serial)
  return entry && view(entry, namesOf(entry, engineNamesLookup()), feed.counts({ index, serial }))
}
