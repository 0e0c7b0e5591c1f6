import type { VerdictName } from '../calls/record.ts'
import { BOUNDS } from '../memories/counts-layout.ts'
import type { CallCount, ContainerCounts } from '../memories/read-counts.ts'
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
  readonly refusals: readonly RefusalView[]
  /** Everything that the directory says. */
  readonly about: Entry
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const number = (value: unknown): number => (typeof value === 'number' ? value : 0)

/** Returns the upper bound of the bucket in which the given part of all calls lies; undefined without calls. */
export function quantile(calls: readonly Pick<CallCount, 'buckets'>[], part: number): number | undefined {
  const sums = [...BOUNDS, 0].map((_, index) => calls.reduce((sum, { buckets }) => sum + buckets[index]!, 0))
  const all = sums.reduce((sum, each) => sum + each, 0)
  let seen = 0
  const bucket = sums.findIndex((sum) => {
    seen += sum
    return seen >= part * all
  })
  return all === 0 ? undefined : (BOUNDS[bucket] ?? Number.POSITIVE_INFINITY)
}

type Counted = Pick<CallCount, 'verdict' | 'calls'>
const sumOf = (calls: readonly Counted[], verdict?: VerdictName): number =>
  calls.filter((each) => verdict === undefined || each.verdict === verdict).reduce((sum, each) => sum + each.calls, 0)

function view(about: Entry, names: EngineNames | undefined, counts: ContainerCounts | undefined): ContainerView {
  const pod = [text(about.namespace), text(about.pod)].filter((word) => word !== '').join('/')
  const kept = (about.calls ?? []) as readonly Counted[]
  const calls: readonly Counted[] = counts?.calls ?? kept
  const refusals = [...(counts?.refusals ?? [])].map(refusalView).sort((one, other) => other.time - one.time)
  return {
    id: text(about.id),
    serial: number(about.serial),
    runtime: text(about.runtime),
    name: text(about.name) || names?.name || pod,
    image: text(about.image) || names?.image || pod,
    pid: number(about.init),
    keys: (about.on ?? []) as readonly string[],
    state: about.ended !== undefined ? 'ended' : about.barred ? 'left' : 'served',
    calls: sumOf(calls),
    done: sumOf(calls, 'act'),
    left: sumOf(calls, 'continue'),
    errors: sumOf(calls, 'errno'),
    gone: sumOf(calls, 'gone'),
    inFlight: counts?.inFlight ?? 0,
    stuck: counts?.stuck ?? 0,
    kept: counts?.kept ?? 0,
    p50: quantile(counts?.calls ?? [], 0.5),
    refusals: refusals.length > 0 ? refusals : ((about.refusals ?? []) as readonly RefusalView[]),
    about,
  }
}

const namesOf = ({ id, bundle, name }: Entry, lookup: EngineNamesLookup): EngineNames | undefined =>
  name === undefined ? lookup(text(id), text(bundle)) : undefined

/** Returns the containers of a daemon. @param all also those that have ended last */
export function containersOf(feed: FeedReader, all = false): readonly ContainerView[] {
  const { directory } = feed
  const lookup = engineNamesLookup()
  const live = directory.containers.map((about) => {
    const counts = feed.counts({ index: number(about.index), serial: number(about.serial) })
    return view(about, namesOf(about, lookup), counts)
  })
  return all
    ? [...live, ...directory.ring('ended').map((about) => view(about, namesOf(about, lookup), undefined))]
    : live
}

/**
 * Finds a container by its id, its name, or the beginning of its id.
 *
 * @returns those that are meant: none, one, or several if that is not clear
 */
export function findContainer(all: readonly ContainerView[], word: string): readonly ContainerView[] {
  // Most containers have no name.
  if (word === '') return []
  const exact = all.filter(({ id, name }) => id === word || name === word)
  const live = exact.filter(({ state }) => state !== 'ended')
  if (live.length > 0) return live
  if (exact.length > 0) return exact.slice(-1)
  return all.filter(({ id }) => id.startsWith(word))
}
