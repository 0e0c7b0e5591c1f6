import { syscallName } from '../abi/syscalls.ts'
import { isoTime } from '../calls/escape.ts'
import { orElse } from '../kernel/error.ts'
import type { CallCount } from '../memories/read-counts.ts'
import { type CallName, callOf, type PermittingKey } from '../policy/keys.ts'
import { parsePolicy } from '../policy/settings.ts'
import { type ContainerView, keysGiven, number, RUN } from '../reader/container-fields.ts'
import type { FeedReader } from '../reader/feed.ts'
import { counted } from '../shared/texts.ts'
import { adviceOf, formatAdvice, joinValues, jsonOf, type Keys, MANNERS, writeAdvice } from './advice.ts'
import {
  formatContainer,
  formatDropped,
  openFeeds,
  openRunOf,
  type ReadOptions,
  requireContainer,
  sayMissing,
  whyLeft,
} from './open-feed.ts'
import { print, say } from './print.ts'
import { familyOf, familyOfShown, isDone, RunObserver, type SeenCalls, type UsedKey } from './run-report.ts'
import { ceilingBelow, keysNeeded } from './ways-to-allow.ts'

export interface ContainerOptions extends Pick<ReadOptions, 'feed' | 'history'> {
  readonly write?: string
  readonly profile?: string
  readonly format?: 'table' | 'json'
}

/** Returns how many calls of each key only observe mode has left to the kernel. */
function observedCalls({ refusals }: ContainerView): ReadonlyMap<CallName, number> {
  const calls = new Map<CallName, number>()
  for (const { reason, call, count } of refusals) {
    const family = reason === 'observedAct' ? familyOfShown(call) : undefined
    if (family) calls.set(family, (calls.get(family) ?? 0) + count)
  }
  return calls
}

const sumOf = (counts: ReadonlyMap<CallName, number>): number =>
  [...counts.values()].reduce((all, count) => all + count, 0)

/**
 * Returns how many calls of each key were done, or would have been in observe mode. Of a container that history alone
 * has, only the sum of those that were done is known: what is not known otherwise counts for each key. What was
 * observed is known for each.
 *
 * @param known the calls of each key whose records are there
 */
function doneCalls(
  view: ContainerView,
  feed: FeedReader | undefined,
  known: ReadonlyMap<CallName, number>,
): ReadonlyMap<CallName, number> {
  const { about, serial, done: sum } = view
  const counts = feed?.counts({ index: number(about.index), serial })
  const calls = counts?.calls ?? ((about.calls ?? []) as readonly CallCount[])
  if (calls.every(({ arch }) => arch === undefined)) {
    const families = [...keysGiven(view).keys()].flatMap((key) => callOf(key) ?? [])
    const observed = observedCalls(view)
    const rest = sumOf(observed) + sum - sumOf(known)
    return new Map(
      families.flatMap((family) => {
        const own = known.get(family) ?? 0
        const unknown = Math.min(rest, (observed.get(family) ?? 0) + sum - own)
        return unknown > 0 ? [[family, own + unknown]] : []
      }),
    )
  }
  const done = new Map<CallName, number>()
  for (const { arch, nr, verdict, reason, calls: count } of calls) {
    const family = isDone({ verdict, reason }) ? familyOf(syscallName(arch, nr)) : undefined
    if (family) done.set(family, (done.get(family) ?? 0) + count)
  }
  return done
}

/** Collects what the records of a container that are still in memory have used. */
function usedIn({ records }: FeedReader, { serial }: ContainerView, given: Keys): readonly UsedKey[] {
  const observer = new RunObserver()
  const policy = parsePolicy(given)
  const { begun } = records
  records.next = records.oldest
  for (let batch = records.read(); batch.length > 0 && records.next <= begun; batch = records.read()) {
    // Without arguments it is not known what a call used.
    for (const { record, args, texts } of batch)
      if (record.serial === serial && args) observer.add(record, { args, texts }, policy)
  }
  return observer.seen.used
}

const UNKNOWN = '(not known)'

/** Returns the keys that older calls of a family may have used. */
const keysFor = (family: CallName, given: Keys, count: number): readonly UsedKey[] => [
  { key: family, value: 'true', count, call: UNKNOWN },
  ...[...given]
    .filter(([key]) => key !== family && callOf(key) === family && !MANNERS.has(key))
    .map(([key, value]) => ({ key: key as PermittingKey, value, count, call: UNKNOWN })),
]

/** Returns what a container used and was refused, and sentences about what of it is only assumed. */
function seenOf(
  view: ContainerView,
  feed: FeedReader | undefined,
): SeenCalls & { readonly assumed: readonly string[] } {
  const given = keysGiven(view)
  const seen = feed ? usedIn(feed, view, given) : []
  const known = new Map(
    seen.flatMap(({ key, count }) => (key === callOf(key) ? [[key as CallName, count] as const] : [])),
  )
  const older = [...doneCalls(view, feed, known)].flatMap(([family, count]) => {
    const rest = count - (known.get(family) ?? 0)
    return rest > 0 ? [{ family, count: rest }] : []
  })
  const { countedUntil } = view
  const later =
    countedUntil === undefined
      ? []
      : [...new Set([...given.keys()].flatMap((key) => callOf(key) ?? []))].flatMap((family) =>
          keysFor(family, given, 0),
        )
  return {
    used: [...later, ...seen, ...older.flatMap(({ family, count }) => keysFor(family, given, count))],
    refused: view.refusals.map((refusal) => {
      const { count, call, errno, reason, says, wants } = refusal
      const needs = wants && keysNeeded(view, refusal)
      return {
        ...{ kind: '', count, call, reason, says, wants },
        ...(needs && needs.length > 1 ? { needs } : {}),
        ...(errno === undefined ? {} : { errno }),
      }
    }),
    unnamed: 0,
    assumed: [
      ...(view.done > 0 && view.about.keys === undefined
        ? [`${formatContainer(view)}: it is not known any more which keys it has, so none is advised`]
        : []),
      ...(later.length > 0
        ? [
            `${formatContainer(view)}: it is not known what it called ${unknownSpan(view)}, so all its keys stay as it has them`,
          ]
        : []),
      ...older.map(
        ({ family, count }) =>
          `${formatContainer(view)}: it is not known any more what ${counted(count, 'earlier call')} used, so the keys of ${family} stay as the container has them`,
      ),
    ],
  }
}

/** Says when nobody counted the calls of a container. */
const unknownSpan = ({ countedUntil, countedAgain }: ContainerView): string =>
  countedAgain === undefined
    ? `after ${isoTime(countedUntil!)}`
    : `between ${isoTime(countedUntil!)} and ${isoTime(countedAgain)}`

/** Says which ceilings keep a container from what it was refused, whatever its profile gives. */
function sayCeilings(view: ContainerView): void {
  const wanted = view.refusals.flatMap((refusal) => {
    const { wants } = refusal
    return wants ? [{ key: callOf(wants.key), value: 'true' }, wants, ...(keysNeeded(view, refusal) ?? [])] : []
  })
  const texts = wanted.flatMap((each) => {
    const ceiling = orElse(undefined, () => ceilingBelow(view, each))
    const above = `${each.key}=${each.value} is above the ceiling ${JSON.stringify(ceiling)} of the configuration`
    return ceiling === undefined ? [] : [`${formatContainer(view)}: ${above}: raise that too`]
  })
  for (const text of new Set(texts)) say(text)
}

/** Says of a container why it has used nothing, if that is not what its calls tell. */
function sayNothingDone(view: ContainerView): void {
  if (view.state === 'left') say(`${formatContainer(view)}: all calls are left to the kernel, because ${whyLeft(view)}`)
  else if (view.calls === 0 && view.countedUntil === undefined)
    say(`${formatContainer(view)}: it has not made any call yet that is intercepted`)
}

/** Prints which keys containers have used until now, all together, and what was refused them. */
export function adviseContainers(words: readonly string[], options: ContainerOptions): void {
  using feeds = openFeeds(options.feed, { directory: options.history })
  const found = words.map((word) => requireContainer(feeds, word))
  const views = found.filter((view, at) => found.findIndex(({ id }) => id === view.id) === at)
  sayMissing(feeds)
  const all = views.map((view) => {
    using run = view.runtime === RUN && view.state !== 'ended' ? openRunOf(view.id) : undefined
    return seenOf(view, run ?? feeds.daemon)
  })
  const seen = {
    used: all.flatMap(({ used }) => used),
    refused: all.flatMap(({ refused }) => refused),
    unnamed: 0,
  }
  const advice = adviceOf(seen, joinValues(views.flatMap((view) => [...keysGiven(view)])))
  print(options.format === 'json' ? jsonOf(advice, {}) : formatAdvice(advice, ''))
  for (const text of all.flatMap(({ assumed }) => assumed)) say(text)
  for (const view of views) {
    sayCeilings(view)
    sayNothingDone(view)
  }
  for (const view of views.filter(({ droppedRefusals }) => droppedRefusals > 0)) say(formatDropped(view))
  if (options.write !== undefined)
    writeAdvice(options.write, options.profile ?? (views[0]!.name || views[0]!.id), advice.keys)
}
