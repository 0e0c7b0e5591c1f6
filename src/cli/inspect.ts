import { isoTime } from '../calls/escape.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import type { RefusalView } from '../memories/refusal-view.ts'
import { PREFIX } from '../policy/key.ts'
import { type Origin, parseOrigin } from '../policy/key-value-lines.ts'
import { callOf, type KeyName } from '../policy/keys.ts'
import type { Note } from '../policy/resolve.ts'
import { type ContainerView, type KeyEntry, RUN } from '../reader/container-fields.ts'
import { everythingOf, stateWord } from '../reader/container-view.ts'
import { FORMATS } from './formats.ts'
import {
  formatDropped,
  isServed,
  openFeeds,
  type ReadOptions,
  requireContainer,
  sayMissing,
  whyLeft,
} from './open-feed.ts'
import { ago, duration, formatRows, formatValue, parseFormat, table } from './output-format.ts'
import { print } from './print.ts'
import { remedyHere } from './ways-to-allow.ts'

type DaemonLimits = DaemonTotals['limits'] | undefined

const date = (ms: unknown): string => `${isoTime(Number(ms))}`

interface SetEntry {
  readonly key: string
  readonly value: string
  readonly by: string
  readonly time: number
}

const CHANGED_BY: { readonly [Kind in Origin['kind']]?: string } = {
  set: 'intercede set',
  profile: 'the profile in the configuration, then a reload',
  configuration: 'the configuration, then a reload',
  default: 'the configuration, then a reload',
  annotation: 'the annotation, and a new container',
  unreadable: 'the annotation, and a new container',
}

/** Says who can change a key for good, by where its value came from. */
function changedBy({ origin, asked }: KeyEntry): string {
  if (asked !== undefined) return 'the ceiling in the configuration, then a reload'
  return CHANGED_BY[parseOrigin(origin).kind] ?? 'the seccomp profile, and a new container'
}

function formatOrigin(name: string, { origin, asked }: KeyEntry, { set = [], barred }: ContainerView['about']): string {
  const found = (set as readonly SetEntry[]).find(({ key }) => key === name)
  const who = found ? `set by ${found.by}, ${ago(Date.now() - found.time)}` : origin
  // What was set does not hold beside the rest of the policy.
  if (found && origin !== 'set')
    return `${origin}; ${orNone(found.value)}, ${who}, returns when ${barred ? 'the policy is valid again' : 'nothing contradicts it'}`
  return asked === undefined ? who : `${who}, which asks for ${asked}`
}

const orNone = (value: string | undefined): string => (value === '' ? '-' : (value ?? ''))

/** Whether the container's filter traps the call of a key. @param traps a list, or that it is unknown */
function isTrapped(name: string, traps: unknown): boolean {
  const call = callOf(name as KeyName)
  if (call === undefined) return true
  return !Array.isArray(traps) || traps.includes(call) || traps.includes(`${call}at`)
}

function keyTable({ about, runtime }: ContainerView): string {
  const entries = Object.entries((about.keys ?? {}) as Readonly<Record<string, KeyEntry>>)
  const changed = (name: string, entry: KeyEntry): string => {
    if (runtime === RUN) return 'the command line of run'
    return isTrapped(name, about.traps) ? changedBy(entry) : 'a seccomp profile that traps it, and a new container'
  }
  const bounded = entries.some(([, { ceiling }]) => ceiling !== undefined)
  const rows = entries.map(([name, entry]) => [
    ...[name, orNone(entry.value), ...(bounded ? [orNone(entry.ceiling)] : [])].map(formatValue),
    ...[formatOrigin(name, entry, about), changed(name, entry)].map(formatValue),
  ])
  const titles = ['KEY', 'VALUE', ...(bounded ? ['CEILING'] : []), 'FROM', 'CHANGED BY']
  return table(
    titles.map((title) => ({ title })),
    rows,
  )
}

const idMap = (extents: unknown): string =>
  ((extents ?? []) as readonly (readonly number[])[])
    .map(([inside, outside, count]) => `${inside}:${outside}:${count}`)
    .join(', ')

/** Says how near a limit is. */
const formatCount = (count: number, limit: number | undefined): string =>
  limit === undefined ? `${count}` : `${count} of ${limit}`

function formatCalls({ calls, done, left, errors, gone, countedUntil: until, countedAgain }: ContainerView): string {
  const all = `: ${done} done, ${left} left, ${errors} error, ${gone} gone`
  if (until === undefined) return `${calls}${all}`
  if (countedAgain !== undefined)
    return `${calls}${all}; those between ${date(until)} and ${date(countedAgain)} are not known`
  if (calls === 0) return `none until ${date(until)}, later ones are not known`
  return `${calls} until ${date(until)}${all}; later ones are not known`
}

function lines(view: ContainerView, limits: DaemonLimits): readonly (readonly [name: string, value: string])[] {
  const { about } = view
  const maps = (about.idMaps ?? {}) as Readonly<Record<string, unknown>>
  const all: readonly (readonly [string, string])[] = [
    ['container', formatValue(view.id)],
    ['name', formatValue(view.name)],
    ['image', formatValue(view.image)],
    ['runtime', formatValue(view.runtime)],
    ['state', stateWord(view)],
    ['since', date(about.since)],
    ['ended', about.ended === undefined ? '' : `${about.outlived === true ? 'later than ' : ''}${date(about.ended)}`],
    ['pid of init', `${view.pid}`],
    ['bundle', formatValue(about.bundle)],
    ['cgroup', formatValue(about.cgroup)],
    ['uid map', idMap(maps.uid)],
    ['gid map', idMap(maps.gid)],
    [
      'listeners',
      about.listeners === undefined ? '' : formatCount(Number(about.listeners), limits?.listenersPerContainer),
    ],
    ['trapped', formatValue(about.traps)],
    ['annotations', formatValue(about.annotations)],
    ['left to the kernel', whyLeft(view)],
    ['calls', formatCalls(view)],
    ...(isServed(view)
      ? ([
          [
            'in flight',
            `${formatCount(view.inFlight, limits?.callsPerContainer)}${view.stuck > 0 ? `, ${view.stuck} stuck` : ''}`,
          ],
          ['kept for it', formatCount(view.kept, limits?.kept)],
        ] as const)
      : []),
    ['half took at most', duration(view.p50)],
    ['left out', formatValue(about.cut)],
  ]
  return all.filter(([, value]) => value !== '' && value !== '{}')
}

function formatDetail(view: ContainerView, limits: DaemonLimits): string {
  const all = lines(view, view.runtime === RUN || !isServed(view) ? undefined : limits)
  const width = Math.max(...all.map(([name]) => name.length))
  const { keys, barred, warnings = [], ignored = [] } = view.about
  return [
    ...all.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`),
    ...(keys ? [`\n${keyTable(view)}`] : []),
    // What bars the container stands above.
    ...(barred ? [] : (warnings as readonly string[])).map((warning) => `\ncannot work: ${formatValue(warning)}\n`),
    ...(ignored as readonly Note[]).map(
      ({ key, value, why }) =>
        `\nignored ${key.startsWith(PREFIX) ? 'annotation' : 'key of "intercede set"'}: ${formatValue(`${key}=${value}`)}: ${formatValue(why)}\n`,
    ),
    ...view.refusals.map(formatRefusal),
    ...(view.droppedRefusals > 0 ? [`\n${formatDropped(view)}\n`] : []),
  ].join('')
}

const formatRefusal = ({ count, call, verdict, errno, reason, says, remedy }: RefusalView): string =>
  `\n${call}\n  ${verdict}${errno ? ` with ${errno}` : ' to the kernel'} ${count === 1 ? 'once' : `${count} times`}, ${formatValue(`${reason}: ${says}`)}${remedy ? `\n  ${formatValue(remedy)}` : ''}\n`

/** Says of each refusal what can be done about it in this container. */
const withRemedies = (view: ContainerView): ContainerView => ({
  ...view,
  refusals: view.refusals.map((refusal) => ({ ...refusal, ...remedyHere(view, refusal) })),
})

export function inspectCommand(words: readonly string[], { format: given, feed: path, history }: ReadOptions): void {
  const format = parseFormat(given, FORMATS.inspect)
  using feeds = openFeeds(path, { directory: history })
  const all = feeds.containers(true, 0)
  const views = words.map((word) => withRemedies(requireContainer(feeds, word, all)))
  sayMissing(feeds)
  const limits = feeds.daemon?.directory.daemon.limits
  const asText = (): string => views.map((view) => formatDetail(view, limits)).join('')
  print(formatRows(format, () => views.map(everythingOf), asText))
}
