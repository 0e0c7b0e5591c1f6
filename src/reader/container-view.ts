import { escaped } from '../calls/escape.ts'
import { explain, why } from '../calls/reasons.ts'
import { type VerdictName, WORDS, type Word } from '../calls/record.ts'
import { BOUNDS } from '../memories/counts-layout.ts'
import type { CallCount, ContainerCounts, WhichRefusals } from '../memories/read-counts.ts'
import { type RefusalView, refusalView } from '../memories/refusal-view.ts'
import { type EngineNames, type EngineNamesLookup, engineNamesLookup } from '../runtimes/engine-names.ts'
import { briefly, fewOf } from '../shared/texts.ts'
import {
  type ContainerNames,
  type ContainerView,
  LIST_FIELDS,
  MADE_IN_DETAIL,
  namesOf,
  number,
  shownName,
  text,
  viewOf,
} from './container-fields.ts'
import type { Entry } from './directory-reader.ts'
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

/** History has the words of verdicts. */
interface Counted extends Pick<CallCount, 'calls'> {
  readonly verdict: VerdictName | Word
}

function byVerdict(counted: readonly Counted[]): Readonly<Record<Word, number>> {
  const sums = { left: 0, error: 0, done: 0, gone: 0 }
  for (const { verdict, calls } of counted) sums[WORDS[verdict as VerdictName] ?? verdict] += calls
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

/** What bars every container while engines keep failing. */
const NO_ENGINE = { code: 'noEngine', ...explain(why('noEngine')) }

/** Returns what is changed in an entry now: while engines keep failing, the keeper leaves all calls to the kernel. */
const standsIn = ({ directory }: FeedReader): ((entry: Entry) => Entry) =>
  number(directory.daemon.nextEngine) > Date.now() ? (entry) => ({ barred: NO_ENGINE, ...entry }) : (entry) => entry

const engineNamesOf = ({ id, bundle, name }: Entry, lookup: EngineNamesLookup): EngineNames | undefined =>
  name === undefined ? lookup(text(id), text(bundle)) : undefined

/**
 * Returns the containers of a daemon.
 *
 * @param all whether to include recently ended containers
 * @param which which refusals of each to read; with all of them, reading a thousand containers takes twice the time
 */
export function containersOf(feed: FeedReader, all = false, which: WhichRefusals = 'all'): readonly ContainerView[] {
  const views = [...eachContainer(feed, all, which)]
  return all ? joinOutlived(views) : views
}

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
  const asNow = standsIn(feed)
  for (const entry of about === 'brief' ? directory.briefContainers() : directory.containers) {
    const counts = feed.counts({ index: number(entry.index), serial: number(entry.serial) }, which)
    yield view(asNow(entry), engineNamesOf(entry, lookup), counts)
  }
  if (!all) return
  for (const entry of directory.ring('ended')) yield view(entry, engineNamesOf(entry, lookup), undefined)
}

/** Makes views of containers from their last lines in history. */
export const pastViews = (entries: readonly Entry[]): readonly ContainerView[] =>
  entries.map((entry) => view(entry, undefined, undefined))

/** Returns the detail of a container from a list; undefined if the container has gone meanwhile. */
export function wholeContainer(feed: FeedReader, { about, serial }: ContainerView): ContainerView | undefined {
  const index = number(about.index)
  const served = about.ended === undefined ? feed.directory.container(index) : undefined
  const entry =
    served?.serial === serial
      ? standsIn(feed)(served)
      : feed.directory.ring('ended').find((ended) => ended.serial === serial)
  return entry && view(entry, engineNamesOf(entry, engineNamesLookup()), feed.counts({ index, serial }))
}

/** Prefers present containers; among ended ones, the last one. */
function liveOrLast(found: readonly ContainerView[]): readonly ContainerView[] {
  const live = found.filter(({ state }) => state !== 'ended')
  return live.length > 0 ? live : found.slice(-1)
}

/** A restarted container appears twice with its id: as present and as ended. */
const eachOnce = (found: readonly ContainerView[]): readonly ContainerView[] =>
  [...new Set(found.map(({ id }) => id))].flatMap((id) => liveOrLast(found.filter((each) => each.id === id)))

const isEnded = ({ state }: ContainerView): boolean => state === 'ended'

/** Whether a word is the name of a container, with its Pod or without. */
export const isCalled = (view: ContainerView, word: string): boolean => view.name === word || shownName(view) === word

/** At least as much of an id as engines print. The container may be forgotten when somebody types such an id. */
export const isLikeId = (word: string): boolean => /^[0-9a-f]{12,}$/.test(word)

/**
 * Finds a container by its id, its name, or the beginning of its id. Whoever starts a container may choose its name, so
 * a name never wins over the id of another container, or over the beginning of the id of one that is present. History
 * has thousands that have ended: the beginnings of their ids hide no name.
 *
 * @returns the matching containers: none, one, or several if the word is ambiguous
 */
export function findContainer(all: readonly ContainerView[], word: string): readonly ContainerView[] {
  // Most containers have no name.
  if (word === '') return []
  const exact = all.filter(({ id }) => id === word)
  const named = liveOrLast(all.filter((view) => isCalled(view, word)))
  // Of LXC and plain runtimes, ids are words: one that has ended is not meant while another has its id as a name.
  const isOver = !isLikeId(word) && exact.every(isEnded) && named.some((view) => !isEnded(view))
  if (exact.length > 0 && !isOver) return liveOrLast(exact)
  const begun = eachOnce(all.filter(({ id }) => id.startsWith(word)))
  if (begun.length === 0 && isLikeId(word)) return []
  const found = [...named, ...begun.filter(({ id }) => named.every((other) => other.id !== id))]
  // Who types so much of an id means that, even if a present container has it as its name.
  if (isLikeId(word)) return found
  const present = found.filter(({ state }) => state !== 'ended')
  if (present.length > 0) return present
  return named.length > 0 ? named : found
}

/** Returns containers with the names that their engine gives them now: the daemon learns of others a moment later. */
function withNamesNow(all: readonly ContainerView[]): readonly ContainerView[] {
  const lookup = engineNamesLookup()
  return all.map((view) => {
    const names = isEnded(view) ? undefined : lookup(view.id, text(view.about.bundle))
    return names?.name === undefined ? view : { ...view, name: names.name, about: { ...view.about, name: names.name } }
  })
}

/** Finds what runs under a name by the names of now, and only otherwise what had it before. */
export function findNow(all: readonly ContainerView[], word: string): readonly ContainerView[] {
  const named = findContainer(withNamesNow(findContainer(all, word)), word)
  return named.some((view) => !isEnded(view)) ? named : findContainer(withNamesNow(all), word)
}

/** Returns those that have ended and had the name or id before: the container was made or started again. */
export const earlierOf = (all: readonly ContainerView[], now: ContainerView, word: string): readonly ContainerView[] =>
  all.filter((view) => {
    // Where the word is an id, whoever had it as a name is not meant.
    const isMeant =
      view.id === now.id || view.id === word || (now.id !== word && !isLikeId(word) && isCalled(view, word))
    return view !== now && isEnded(view) && isMeant
  })

/** Returns those present that a word names, but does not mean, since it is the id of another one. */
export const namesakesOf = (all: readonly ContainerView[], word: string): readonly ContainerView[] =>
  all.filter((view) => view.id !== word && !isEnded(view) && isCalled(view, word))

const listIds = (found: readonly ContainerView[]): string => fewOf(found.map(({ id }) => escaped(id)))

/** Returns the message that a word matches several containers, with their names. */
export function describeAmbiguity(found: readonly ContainerView[], word: string): string {
  const named = found.filter((view) => isCalled(view, word))
  const begun = found.filter((view) => !isCalled(view, word))
  const why = [
    ...(named.length > 0 ? [`it is the name of ${listIds(named)}`] : []),
    ...(named.length > 0 && begun.length > 0 ? ['and the beginning of'] : []),
    ...(begun.length > 0 ? [listIds(begun)] : []),
    ...(named.length === 0 ? ['begin with it'] : []),
  ].join(' ')
  return `Cannot tell which container ${briefly(word)} is: ${why}; give ${named.length > 0 ? 'the whole id' : 'more of its id'}`
}

const SUMMED = ['calls', 'done', 'left', 'errors', 'gone', 'droppedRefusals'] as const

/** Returns since when, and until when, nobody has counted the calls of a container. @param last its last refusal */
function countedOf(view: ContainerView, other: ContainerView, last = 0): Partial<ContainerView> {
  const ends = [view, other].flatMap(({ countedUntil }) => countedUntil ?? [])
  if (ends.length === 0) return {}
  const since = view.countedAgain ?? (view.countedUntil === undefined ? view.about.since : undefined)
  if (typeof since === 'number' && !isStray(view)) return { countedUntil: Math.min(...ends), countedAgain: since }
  return { countedUntil: Math.max(...ends, last) }
}

/** Adds to a view what another one has of the same container. */
function joined(view: ContainerView, other: ContainerView): ContainerView {
  const refusals = [...view.refusals, ...other.refusals].sort((one, another) => another.time - one.time)
  const sums = Object.fromEntries(SUMMED.map((name) => [name, view[name] + other[name]]))
  // What both did last is no later than the end.
  const ends = [view.about.ended, other.about.ended, refusals[0]?.time].filter((time) => typeof time === 'number')
  const about = view.state === 'ended' ? { ...view.about, ended: Math.max(...ends) } : view.about
  return {
    ...view,
    ...sums,
    ...countedOf(view, other, refusals[0]?.time),
    about,
    refusals,
    lastRefusal: refusals[0]?.call,
    lastRefusalTime: refusals[0]?.time,
  }
}

/** Returns the code of the reason why all calls of a container are left to the kernel. */
export const barredBy = ({ about }: Pick<ContainerView, 'about'>): unknown => (about.barred as Entry | undefined)?.code

/** Whether it is a process that was exec'd into a container which its daemon does not know. */
export const isStray = (view: Pick<ContainerView, 'about'>): boolean => barredBy(view) === 'unknownContainer'

/** Whether two views of the same id are of one container. A list of present containers lacks times. */
function isOne(one: ContainerView, other: ContainerView): boolean {
  const [{ since, started }, { since: otherSince, started: otherStarted }] = [one.about, other.about]
  if (!isStray(other)) return one.pid === other.pid && (started ?? otherStarted) === (otherStarted ?? started)
  if (isStray(one)) return true
  if (since === undefined) return other.state !== 'ended'
  return otherSince === undefined || number(since) <= number(otherSince)
}

/**
 * Joins the views of containers that outlived their daemon. The next one serves the same container of LXC again, and
 * knows of the others only what is exec'd into them.
 *
 * @param all what a daemon shows, then what history has, the oldest first
 */
export function joinOutlived(all: readonly ContainerView[]): readonly ContainerView[] {
  const rows: (ContainerView | undefined)[] = [...all]
  const byId = new Map<string, number[]>()
  const take = (view: ContainerView, index: number): void => {
    const same = byId.get(view.id) ?? []
    byId.set(view.id, same)
    const at = same.findLast((each) => isOne(rows[each]!, view))
    const found = at === undefined ? undefined : rows[at]!
    if (found === undefined) same.push(index)
    else {
      rows[at!] = found.state === 'ended' && !isStray(view) ? joined(view, found) : joined(found, view)
      rows[index] = undefined
    }
  }
  // What is a part of others comes after them.
  for (const stray of [false, true])
    for (const [index, view] of all.entries()) if (isStray(view) === stray) take(view, index)
  return rows.filter((row) => row !== undefined)
}

/** Puts together what the daemon shows and what history has: of the same container, the one that knows more. */
export function together(
  shown: readonly ContainerView[],
  past: readonly ContainerView[],
  unread: ReadonlyMap<number, unknown>,
): readonly ContainerView[] {
  const running = new Set(shown.flatMap(({ serial, state }) => (state === 'ended' ? [] : [serial])))
  const over = new Set(shown.map(({ serial }) => serial))
  // The end of a container may be a line that could not be written.
  const isOld = ({ serial, about }: ContainerView): boolean => about.outlived === true && over.has(serial)
  const kept = past.filter((view) => !running.has(view.serial) && !isOld(view))
  const ended = new Set(kept.flatMap(({ serial, state }) => (state === 'ended' ? [serial] : [])))
  const isKept = (serial: number): boolean => ended.has(serial) || unread.has(serial)
  return joinOutlived([...shown.filter(({ serial, state }) => state !== 'ended' || !isKept(serial)), ...kept])
}

/** Says in which state a container is. Of one that its daemon does not know, only the exec'd process has ended. */
export function stateWord(view: Pick<ContainerView, 'state' | 'about'>): string {
  if (view.state === 'ended' && isStray(view)) return 'process ended'
  return view.state === 'unserved' ? 'not served' : view.state
}

/** Nobody knows what a container did after its last line in history, at least until the next daemon counted again. */
export function countIn(name: 'calls' | 'done' | 'left' | 'errors'): (view: ContainerView) => string {
  return ({ [name]: count, countedUntil, countedAgain }) => {
    if (countedUntil === undefined) return `${count}`
    return count === 0 && countedAgain === undefined ? '-' : `${count}+`
  }
}

type Row = Readonly<Record<string, unknown>>

/** A container in a list, for programs. */
export const summaryOf = (view: ContainerView): Row => pick(view, LIST_FIELDS)

/** Everything that is known about a container: the directory's entry and the counts. */
export function everythingOf(view: ContainerView): Row {
  const { on, index: _, number: __, calls: ___, init: ____, started: _____, ...rest } = view.about
  const { unserved: ______, outlived: _______, ...said } = rest
  return { ...said, ...pick(view, MADE_IN_DETAIL) }
}

function pick(view: ContainerView, names: readonly string[]): Row {
  const row: Record<string, unknown> = {}
  for (const name of names) row[name] = (view as unknown as Row)[name]
  return row
}

export interface RefusalRow extends RefusalView, ContainerNames {
  readonly container: string
  readonly name: string
}

/** Returns the members of a row about a container that tell which one that is. */
export const whichOf = (view: ContainerView): Pick<RefusalRow, 'container' | keyof ContainerNames> => ({
  ...{ container: view.id, name: view.name },
  ...namesOf(view.about, view),
})

/** Returns the kinds of refusals of containers, the most frequent first. */
export const refusalsOf = (views: readonly ContainerView[]): readonly RefusalRow[] =>
  views
    .flatMap((view) => view.refusals.map((refusal) => ({ ...whichOf(view), ...refusal })))
    .sort((one, other) => other.count - one.count)
