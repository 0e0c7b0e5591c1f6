import { syscallName } from '../abi/syscalls.ts'
import type { CallCount } from '../memories/read-counts.ts'
import { type CallName, callOf, keys, type OptionName } from '../policy/keys.ts'
import { parsePolicy } from '../policy/settings.ts'
import { type ContainerView, type KeyEntry, number } from '../reader/container-fields.ts'
import type { FeedReader } from '../reader/feed.ts'
import { counted } from '../shared/texts.ts'
import { adviceOf, formatAdvice, jsonOf, type Keys, MANNERS, writeAdvice } from './advice.ts'
import {
  formatContainer,
  formatDropped,
  openFeeds,
  openRunOf,
  type ReadOptions,
  RUN,
  requireContainer,
  sayMissing,
} from './open-feed.ts'
import { print, say } from './print.ts'
import { familyOf, isDone, RunObserver, type RunReport, type UsedKey } from './run-report.ts'

export interface ContainerOptions extends Pick<ReadOptions, 'feed' | 'history'> {
  readonly write?: string
  readonly profile?: string
  readonly format?: 'table' | 'json'
}

/** The keys that a container has, as far as they are not off. */
const keysOf = ({ about }: ContainerView): Keys =>
  new Map(
    (Object.entries(about.keys ?? {}) as [OptionName, KeyEntry][])
      .filter(([key, { value }]) => key in keys && value !== keys[key].default)
      .map(([key, { value }]) => [key, value]),
  )

/** Returns how many calls of each key were done, or would have been in observe mode. */
function doneCalls({ about, serial }: ContainerView, feed: FeedReader | undefined): ReadonlyMap<CallName, number> {
  const done = new Map<CallName, number>()
  const counts = feed?.counts({ index: number(about.index), serial })
  for (const { arch, nr, verdict, reason, calls } of counts?.calls ?? ((about.calls ?? []) as readonly CallCount[])) {
    const family = arch !== undefined && isDone({ verdict, reason }) ? familyOf(syscallName(arch, nr)) : undefined
    if (family) done.set(family, (done.get(family) ?? 0) + calls)
  }
  return done
}

/** Collects what the records of a container that are still in memory have used. */
function usedIn(feed: FeedReader, { serial }: ContainerView, given: Keys): readonly UsedKey[] {
  const observer = new RunObserver()
  const policy = parsePolicy(given)
  const { records } = feed
  records.next = records.oldest
  for (let batch = records.read(); batch.length > 0; batch = records.read())
    for (const { record, ...args } of batch) if (record.serial === serial) observer.add(record, args, policy)
  return observer.report(0, {}).used
}

/** Returns the options that a container has for a call: which of them older calls used is not known. */
const optionsFor = (family: CallName, given: Keys, count: number): readonly UsedKey[] =>
  [...given]
    .filter(([key]) => key !== family && callOf(key) === family && !MANNERS.has(key))
    .map(([key, value]) => ({ key: key as OptionName, value, count, call: '(no longer known)' }))

/** Returns what a container used and was refused, and what of it is only assumed. */
function reportOf(
  view: ContainerView,
  feed: FeedReader | undefined,
): RunReport & { readonly unknown: readonly string[] } {
  const given = keysOf(view)
  const seen = feed ? usedIn(feed, view, given) : []
  const older = [...doneCalls(view, feed)].flatMap(([family, count]) => {
    const known = seen.find(({ key }) => key === family)?.count ?? 0
    return count > known ? [{ family, count: count - known }] : []
  })
  return {
    status: 0,
    used: [
      ...seen,
      ...older.flatMap(({ family, count }): readonly UsedKey[] => [
        { key: family, value: 'true', count, call: '(no longer known)' },
        ...optionsFor(family, given, count),
      ]),
    ],
    refused: view.refusals.map(({ count, call, errno, reason, says, wants }) => ({
      ...{ kind: '', count, call, reason, says, wants },
      ...(errno === undefined ? {} : { errno }),
    })),
    unnamed: 0,
    files: {},
    unknown: older.map(
      ({ family, count }) =>
        `${formatContainer(view)}: ${counted(count, 'earlier call')} of ${family} ${count === 1 ? 'is' : 'are'} only counted by now: its options stay as the container has them`,
    ),
  }
}

/** Prints which keys containers have used until now, all together, and what was refused them. */
export function adviseContainers(words: readonly string[], options: ContainerOptions): void {
  using feeds = openFeeds(options.feed, { directory: options.history })
  const views = words.map((word) => requireContainer(feeds, word))
  sayMissing(feeds)
  const reports = views.map((view) => {
    using run = view.runtime === RUN && view.state !== 'ended' ? openRunOf(view.id) : undefined
    return reportOf(view, run ?? feeds.daemon)
  })
  const advice = adviceOf(
    { ...reports[0]!, used: reports.flatMap(({ used }) => used), refused: reports.flatMap(({ refused }) => refused) },
    new Map(views.flatMap((view) => [...keysOf(view)])),
  )
  print(options.format === 'json' ? jsonOf(advice, {}) : formatAdvice(advice))
  for (const text of reports.flatMap(({ unknown }) => unknown)) say(text)
  for (const view of views.filter(({ droppedRefusals }) => droppedRefusals > 0)) say(formatDropped(view))
  if (options.write !== undefined)
    writeAdvice(options.write, options.profile ?? (views[0]!.name || views[0]!.id), advice.keys)
}
