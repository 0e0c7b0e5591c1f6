import type { VerdictName } from '../calls/record.ts'
import { BOUNDS } from '../memories/counts-layout.ts'
import type { CallCount, ContainerCounts, WhichRefusals } from '../memories/read-counts.ts'
import { type RefusalView, refusalView } from '../memories/refusal-view.ts'
import type { Entry } from './directory-reader.ts'
import { type EngineNames, type EngineNamesLookup, engineNamesLookup } from './engine-names.ts'
import type { FeedReader } from './feed.ts'

/** A container as people and programs see it. Its texts are as the container or its runtime has chosen them. */
export interface ContainerView {
  readonly id: string
  readonly serial: number
  readonly runtime: string
  readonly name: string
  readonly image: string
  readonly pid: number
  readonly keys: readonly string[]
  readonly state: 'served' | 'left' | 'ended'
  readonly calls: number
  readonly done: number
  readonly left: number
  readonly errors: number
  readonly gone: number
  readonly inFlight: number
  /** Those of them that are served for longer than ten seconds. */
  readonly stuck: number
  /** Descriptors that are kept for it, so that it can go on with them: contexts, mounts, programs. */
  readonly kept: number
  /** Half of the calls took at most so many microseconds; undefined without calls. */
  readonly p50: number | undefined
  /** The newest first. */
  readonly refusals: readonly RefusalView[]
  /** How many kinds of refusals have made room for later ones. */
  readonly droppedRefusals: number
  /** What the directory says: of a list what it needs, else everything. */
  readonly about: Entry
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const number = (value: unknown): number => (typeof value === 'number' ? value : 0)

/** Returns the upper bound of the bucket in which the given part of all calls lies; undefined without calls. */
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
  const pod = [text(about.namespace), text(about.pod)].filter((word) => word !== '').join('/')
  const kept = (about.calls ?? []) as readonly Counted[]
  const sums = byVerdict(counts?.calls ?? kept)
  const refusals = counts?.refusals.map(refusalView) ?? ((about.refusals ?? []) as readonly RefusalView[])
  return {
    id: text(about.id),
    serial: number(about.serial),
    runtime: text(about.runtime),
    name: text(about.name) || names?.name || pod,
    image: text(about.image) || names?.image || pod,
    pid: number(about.init),
    keys: (about.on ?? []) as readonly string[],
    state: about.ended !== undefined ? 'ended' : about.barred ? 'left' : 'served',
    calls: sums.act + sums.continue + sums.errno + sums.gone,
    ...{ done: sums.act, left: sums.continue, errors: sums.errno, gone: sums.gone },
    inFlight: counts?.inFlight ?? 0,
    stuck: counts?.stuck ?? 0,
    kept: counts?.kept ?? 0,
    p50: quantile(counts?.calls ?? [], 0.5),
    refusals: [...refusals].sort((one, other) => other.time - one.time),
    droppedRefusals: counts?.dropped ?? number(about.droppedRefusals),
    about,
  }
}

const namesOf = ({ id, bundle, name }: Entry, lookup: EngineNamesLookup): EngineNames | undefined =>
  name === undefined ? lookup(text(id), text(bundle)) : undefined

/**
 * Returns the containers of a daemon.
 *
 * @param all also those that have ended last
 * @param which of the refusals of each; reading a thousand containers with all of them takes twice the time
 */
export const containersOf = (feed: FeedReader, all = false, which: WhichRefusals = 'all'): readonly ContainerView[] => [
  ...eachContainer(feed, all, which),
]

/**
 * Returns them one after the other, for who keeps less of each than all that is read of it.
 *
 * @param about what is read of the directory
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

/** Returns all of a container of which a list has less; undefined if it has gone meanwhile. */
export function wholeContainer(feed: FeedReader, { about, serial }: ContainerView): ContainerView | undefined {
  const index = number(about.index)
  const served = about.ended === undefined ? feed.directory.container(index) : undefined
  const entry =
    served?.serial === serial ? served : feed.directory.ring('ended').find((ended) => ended.serial === serial)
  return entry && view(entry, namesOf(entry, engineNamesLookup()), feed.counts({ index, serial }))
}
