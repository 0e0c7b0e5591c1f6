import { escaped, isoTime } from '../calls/escape.ts'
import { explainInGeneral, type ReasonCode, reasonCodes } from '../calls/reasons.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import type { RefusalView } from '../memories/refusal-view.ts'
import { fullName } from '../policy/key.ts'
import type { Note } from '../policy/resolve.ts'
import { type ContainerView, LXC } from '../reader/container-fields.ts'
import { barredBy, earlierOf, isCalled, isStray, type RefusalRow, whichOf } from '../reader/container-view.ts'
import { DaemonSilent } from '../reader/feed.ts'
import { briefly, byKey, counted, fewOf } from '../shared/texts.ts'
import { FORMATS } from './formats.ts'
import {
  type Feeds,
  formatContainer,
  formatDropped,
  isServed,
  listedSince,
  openFeeds,
  type ReadOptions,
  requireContainer,
  sayLost,
  sayMissing,
  unmistakable,
  whyLeft,
} from './open-feed.ts'
import { ago, formatCaller, formatRows, formatValue, type OutputFormat, parseFormat } from './output-format.ts'
import { print, say } from './print.ts'
import { checkUsage } from './usage.ts'
import { ALLOWED, remedyHere, type WaysToAllow, waysOf } from './ways-to-allow.ts'

interface ExplainOptions extends ReadOptions {
  readonly since?: number
  /** These three are for --if alone. */
  readonly config?: readonly string[]
  readonly profile?: string
  readonly daemonConfig?: string
}

interface Explained extends RefusalRow, Partial<WaysToAllow> {
  /** When the container ended, in ISO 8601. */
  readonly ended?: string
  readonly note?: string
}

type Daemon = Partial<DaemonTotals>

/** Returns why all calls of a container are left to the kernel, which is more than the reason says in general. */
const saysOf = ({ about }: ContainerView): Partial<Pick<RefusalView, 'says' | 'remedy'>> => {
  const { says, remedy } = about.barred as { readonly says: string; readonly remedy: string }
  return { says, ...(remedy ? { remedy } : {}) }
}

interface Found {
  readonly view: ContainerView
  readonly refusal: RefusalView
}

export const eachRefusal = (views: readonly ContainerView[]): Found[] =>
  views.flatMap((view) => view.refusals.map((refusal) => ({ view, refusal })))

/** Returns why a call was refused, and what to do, where that depends on more than the reason. */
export const saysHere = (view: ContainerView, refusal: RefusalView): Partial<RefusalView> => ({
  ...(refusal.reason === barredBy(view) ? saysOf(view) : {}),
  ...remedyHere(view, refusal),
})

/** Returns what makes rows: finding the word of a container takes a look at all, so it is found once. */
export function rowMaker(
  all: readonly ContainerView[],
  daemon: Daemon | undefined,
  feed: string | undefined,
): (found: Found, word?: string) => Explained {
  const words = new Map<ContainerView, string>()
  const wordOf = (view: ContainerView): string => {
    const word = words.get(view) ?? (isServed(view) ? unmistakable(all, view.id) : '')
    words.set(view, word)
    return word
  }
  return ({ view, refusal }, word = wordOf(view)) => {
    const { ended } = view.about
    return {
      ...whichOf(view),
      ...(typeof ended === 'number' ? { ended: new Date(ended).toISOString() } : {}),
      ...refusal,
      ...saysHere(view, refusal),
      ...waysOf(view, refusal, { word, feed, daemon }),
    }
  }
}

/**
 * Returns what says, per row, which other values of its key the rows of its container want, and who else of its profile
 * wants another one: its command, and its line for good, lack them. No container has its values in another one's row.
 */
function noteMaker(rows: readonly Explained[], profileOf: (row: Explained) => unknown): NoteOf {
  const isOpen = ({ now, forGood, allows }: Explained): boolean =>
    allows !== undefined && now !== ALLOWED && forGood !== ALLOWED
  const ofContainer = ({ container, wants }: Explained): string => JSON.stringify([{ container }, wants?.key])
  const ofProfile = (row: Explained): string => {
    const profile = profileOf(row)
    return profile === undefined ? ofContainer(row) : JSON.stringify([{ profile }, row.wants?.key])
  }
  const wanted = rows.filter((row) => row.wants && isOpen(row))
  const own = byKey(wanted.map((row) => [ofContainer(row), row.wants!.value] as const))
  const shared = byKey(wanted.map((row) => [ofProfile(row), row] as const))
  return (row) => {
    if (!row.wants || !isOpen(row)) return []
    const values = new Set(own.get(ofContainer(row)))
    const others = [...values].filter((value) => value !== row.wants!.value)
    const askers = (shared.get(ofProfile(row)) ?? []).filter(({ wants }) => !values.has(wants!.value))
    const who = [...new Set(askers.map((each) => formatContainer({ ...each, id: each.container })))]
    if (others.length + who.length === 0) return []
    const { key } = row.wants
    const asks = [
      ...(others.length > 0 ? [`the container also asks for ${fewOf(others.map(formatValue))} of ${key}`] : []),
      ...(who.length > 0 ? [`other values of ${key} are wanted in its profile by ${fewOf(who)}`] : []),
    ].join('; ')
    const what = others.length > 0 ? 'command' : 'line'
    return [`${asks}: each ${what} replaces the value, so put all that you allow into one`]
  }
}
type NoteOf = (row: Explained) => readonly string[]

/**
 * Makes rows, each with the notes about it.
 *
 * @param makeRow see `rowMaker`
 * @param others of other containers of their profiles: they have no rows, but notes say what they want
 */
export function rowsWithNotes(
  found: readonly Found[],
  makeRow: ReturnType<typeof rowMaker>,
  others: readonly Found[] = [],
): readonly (readonly [row: Explained, notes: readonly string[]])[] {
  const rows = found.map((each) => makeRow(each))
  const keys = new Set(rows.flatMap(({ wants }) => wants?.key ?? []))
  const asking = others.filter(({ refusal: { wants } }) => wants && keys.has(wants.key))
  // Nobody sees the commands of these.
  const made = [...rows, ...asking.map((each) => makeRow(each, ''))]
  const profiles = new Map([...found, ...asking].map(({ view }, at) => [made[at]!, view.about.profile]))
  const noteOf = noteMaker(made, (row) => profiles.get(row))
  return rows.map((row, at) => [row, [...ignoredBy(row, found[at]!.view), ...noteOf(row)]])
}

/** Returns rows for programs. */
export const withNote = ([row, notes]: readonly [Explained, readonly string[]]): Explained =>
  notes.length === 0 ? row : { ...row, note: notes.join('; ') }

/** Says when a container ended; if its daemon did not know it, only the process that was exec'd into it did. */
function formatEnd({ ended }: Explained, view: ContainerView): string {
  if (ended === undefined) return ''
  const when = ago(Date.now() - Date.parse(ended))
  if (isStray(view)) return `, whose process ended ${when}`
  return `, ended ${view.about.outlived === true ? 'less than ' : ''}${when}`
}

/** Says that an annotation asked for it, and why that did nothing. */
function ignoredBy({ wants }: Explained, { about }: ContainerView): readonly string[] {
  const ignored = ((about.ignored ?? []) as readonly Note[]).find(({ key }) => wants && key === fullName(wants.key))
  if (!ignored) return []
  return [formatValue(`its annotation ${ignored.key}=${ignored.value} is ignored: ${ignored.why}`)]
}

function formatRefusal(row: Explained, view: ContainerView, notes: readonly string[]): string {
  const { count, first, call, verdict, errno, reason, says, remedy, time } = row
  // Those before `--since` are counted, too.
  const from = first === undefined ? '' : `, the first ${ago(Date.now() - Date.parse(first))}`
  const times = count === 1 ? 'once' : `${count} times${from}, the last`
  return [
    `${formatContainer({ ...row, id: row.container })}${formatEnd(row, view)}: ${call}${formatCaller(row)}`,
    `  ${verdict}${errno ? ` with ${errno}` : ' to the kernel'}, ${times} ${ago(Date.now() - time)} [${reason}]`,
    `  why:  ${formatValue(says)}`,
    ...(remedy ? [`  what to do:  ${formatValue(remedy)}`] : []),
    ...(row.now === undefined ? [] : [`  now:  ${formatValue(row.now)}`]),
    ...(row.forGood === undefined ? [] : [`  for good:  ${formatValue(row.forGood)}`]),
    ...(row.allows === undefined || row.forGood === ALLOWED ? [] : [`  which allows:  ${formatValue(row.allows)}`]),
    ...notes.map((note) => `  note:  ${note}`),
  ].join('\n')
}

/** Running containers first, with the most frequent refusals; then those that ended, the last one first. */
function byImportance(one: Found, other: Found): number {
  const [end, otherEnd] = [one, other].map(({ view: { about } }) => (about.ended as number) ?? Number.POSITIVE_INFINITY)
  return end === otherEnd ? other.refusal.count - one.refusal.count : otherEnd! - end!
}

/** The most refusals that a list for people has. */
const LISTED = 1000

/** Says what a list has left out; nothing if it has all. @param unread how many kinds further containers have */
function formatRest(rest: readonly Found[], unread: readonly number[]): readonly string[] {
  const kinds = unread.reduce((sum, count) => sum + count, rest.length)
  if (kinds === 0) return []
  const all = counted(new Set(rest.map(({ view }) => view)).size + unread.length, 'container')
  return [`${counted(kinds, 'more kind')} of refusals, of ${all}: name a container, or use --format json`]
}

/** Says which containers nobody serves any more; nothing if there are none. */
export function formatUnserved(views: readonly ContainerView[]): readonly string[] {
  const orphans = views.filter(({ state }) => state === 'unserved')
  // LXC asks whichever daemon is there.
  const [ofLxc, others] = [true, false].map((is) => orphans.filter(({ runtime }) => (runtime === LXC) === is))
  return [others!, ofLxc!].flatMap((few) => {
    if (few.length === 0) return []
    const [are, them] = few.length === 1 ? ['is', 'it'] : ['are', 'them']
    const names = fewOf(few.map(formatContainer))
    return [
      `${names} ${are} not served: the daemon that served ${them} has ended, so trapped calls fail with ENOSYS; ${few === ofLxc ? 'start the daemon' : `restart the ${few.length === 1 ? 'container' : 'containers'}`}`,
    ]
  })
}

/** Says which containers of LXC a new daemon has not seen yet. */
function formatUnseenYet({ daemon }: Feeds, views: readonly ContainerView[]): readonly string[] {
  const names = views.filter(({ state, runtime }) => state === 'unknown' && runtime === LXC).map(formatContainer)
  if (!daemon || names.length === 0) return []
  const [have, they] = names.length === 1 ? ['has', 'it'] : ['have', 'they']
  return [
    `${fewOf(names)} ${have} not asked this daemon yet: ${they} will with the next trapped call; if that fails with ENOSYS, stop and start the container`,
  ]
}

/** Says of which containers not all refusals are known: those after the end of their daemon, or of a while. */
function formatUnknown(views: readonly ContainerView[]): readonly string[] {
  const late = views.filter(({ countedUntil }) => countedUntil !== undefined)
  const [again, open] = [true, false].map((is) =>
    late.filter(({ countedAgain }) => (countedAgain !== undefined) === is),
  )
  return [open!, again!].flatMap((few) => {
    if (few.length === 0) return []
    const first = isoTime(Math.min(...few.map(({ countedUntil }) => countedUntil!)))
    const when =
      few === open
        ? `after ${first}`
        : `between ${first} and ${isoTime(Math.max(...few.map(({ countedAgain }) => countedAgain!)))}`
    return [`${fewOf(few.map(formatContainer))}: not all that was refused ${when} is known`]
  })
}

/** Says of which containers all calls are left to the kernel, and why. */
function formatBarred(views: readonly ContainerView[]): readonly string[] {
  const barred = views.flatMap((view) => {
    const why = view.state === 'left' ? whyLeft(view) : ''
    return why === '' ? [] : [[why, formatContainer(view)] as const]
  })
  return [...byKey(barred)].map(([why, few]) => `${fewOf(few)}: all calls are left to the kernel, because ${why}`)
}

/** Says which processes of containers were refused, so that all their calls fail. */
function formatRefused({ daemon }: Feeds, views: readonly ContainerView[], since = 0): readonly string[] {
  const containers = new Map(views.map((view) => [view.id, formatContainer(view)]))
  const all = (daemon?.directory.ring('refused') ?? []).flatMap(({ id, time, message }) => {
    const container = containers.get(String(id))
    if (container === undefined || Number(time) < since) return []
    return [[`${container}: ${formatValue(message)}`, ago(Date.now() - Number(time))] as const]
  })
  return [...byKey(all)].map(
    ([what, when]) => `${what} (${when.length === 1 ? 'once' : `${when.length} times, the last`} ${when.at(-1)})`,
  )
}

function formatNone(
  { missing, historyAt, keepsNone, gaps: { begun } }: Feeds,
  word: string | undefined,
  since: number | undefined,
  [view]: readonly ContainerView[],
): string {
  if (missing && (word === undefined || historyAt === undefined)) return 'Without the daemon, no refusal is known.'
  const where = word === undefined ? '' : ` in "${escaped(word)}"${view === undefined ? '' : formatEndOf(view)}`
  const when = since === undefined ? '' : ` since ${isoTime(since)}`
  const { countedUntil: until, countedAgain: again } = (word !== undefined && view) || {}
  if (until !== undefined && again !== undefined)
    return `Nothing was refused${where}${when}, as far as is known: calls between ${isoTime(until)} and ${isoTime(again)} are not. They failed with ENOSYS if no daemon was there.`
  if (until !== undefined)
    return `Nothing was refused${where}${when} until ${isoTime(until)}. Later calls are not known: they failed with ENOSYS if no daemon was there.`
  const remembered = keepsNone
    ? ', as far as the daemon remembers: it keeps no history'
    : word === undefined
      ? sinceHistoryBegan(begun, since)
      : ''
  const left = word === undefined ? 0 : (view?.left ?? 0)
  const byDesign =
    left === 0 ? '' : ` The kernel judged ${counted(left, 'call')}, which may have failed: "intercede events" has them.`
  const unseen = word === undefined || view === undefined ? '' : ` ${formatUnseen(view)}`
  return `Nothing was refused${where}${when}${remembered}.${byDesign}${unseen}`
}

/** Says that a container has ended, so that nobody takes what is said of it for that of the next one. */
function formatEndOf({ about: { ended }, runtime }: ContainerView): string {
  if (typeof ended !== 'number') return ''
  const next = runtime === LXC ? ', and if it was started again, has made no trapped call since' : ''
  return ` (it ended ${ago(Date.now() - ended)}${next})`
}

/** Says that history may lack what happened before it began. */
const sinceHistoryBegan = (begun: number, since = listedSince()): string =>
  begun > since ? ` since history begins, at ${isoTime(begun)}; what happened before is not known` : ''

/** Says which calls of a container nobody here has seen: the kernel alone judges what no filter traps. */
function formatUnseen({ about: { traps } }: ContainerView): string {
  const which = Array.isArray(traps)
    ? `Its filter traps ${fewOf(traps.map(formatValue)) || 'no call'}: any other call`
    : 'A call that its filter does not trap'
  return `${which} was judged by the kernel alone, and is not known here.`
}

const formatAllDropped = (views: readonly ContainerView[]): readonly string[] =>
  views.filter(({ droppedRefusals }) => droppedRefusals > 0).map(formatDropped)

function explainCode(reason: ReasonCode, format: OutputFormat): void {
  const { says, remedy } = explainInGeneral(reason)
  const row = { reason, says, remedy }
  const asText = (): string => `${reason}: ${says}\n${remedy ? `what to do: ${remedy}\n` : ''}`
  print(formatRows(format, () => [row], asText))
}

/** A container that was made again under its name has what was refused before, too. */
const withEarlier = (all: readonly ContainerView[], view: ContainerView, word: string): readonly ContainerView[] => [
  view,
  ...earlierOf(all, view, word),
]

/** Tells whether a container is called like a reason: whoever starts it chooses the name. */
function isContainer(code: ReasonCode, { feed, history }: ExplainOptions): boolean {
  let missing: unknown
  try {
    using feeds = openFeeds(feed, { directory: history })
    missing = feeds.missing
    if ([...feeds.list(true)].some((view) => view.id === code || isCalled(view, code))) return true
  } catch (error) {
    missing = error
  }
  if (missing instanceof DaemonSilent)
    say(`${missing.message}; whether a container has the name ${briefly(code)} is not known`)
  return false
}

export function explainCommand(word: string | undefined, options: ExplainOptions): void {
  const { since, format: given, feed: path, history, config, profile, daemonConfig } = options
  const isForIf = config !== undefined || profile !== undefined || daemonConfig !== undefined
  checkUsage(!isForIf, 'Cannot use -c, --profile and --daemon-config here: they are for --if; name the call with it')
  const format = parseFormat(given, FORMATS.explain)
  const code = reasonCodes.find((each) => each === word)
  if (code !== undefined && !isContainer(code, options)) {
    explainCode(code, format)
    return
  }
  using feeds = openFeeds(path, { directory: history, since })
  const few = word === undefined && format.kind === 'table' ? { most: LISTED, since: since ?? 0 } : undefined
  const from = word === undefined ? (since ?? listedSince()) : 0
  const { views: all, unread } = feeds.newest(from, word, few)
  const views = word === undefined ? all : withEarlier(all, requireContainer(feeds, word, all, reasonCodes), word)
  if (code !== undefined) say(`${briefly(code)} is also a reason: ${explainInGeneral(code).says}`)
  sayMissing(feeds)
  sayLost(feeds)
  // That of a named history has another configuration.
  const daemon = feeds.isOfOther ? undefined : (feeds.daemon?.directory.daemon ?? {})
  const refusedIn = (few: readonly ContainerView[]): Found[] =>
    eachRefusal(few).filter(({ refusal }) => refusal.time >= (since ?? 0))
  const profiles = new Set<unknown>(views.flatMap(({ about: { profile } }) => profile ?? []))
  const others = all.filter((view) => word !== undefined && profiles.has(view.about.profile) && !views.includes(view))
  const found = refusedIn(views).sort(byImportance)
  const rowOf = rowMaker(all, daemon, path)
  const orphans = [...formatUnserved(views), ...formatUnseenYet(feeds, views), ...formatRefused(feeds, views, since)]
  const isPart = word === undefined && since === undefined && feeds.gaps.begun > 0 && feeds.gaps.begun < from
  const leftOut = isPart
    ? [`Containers that ended before ${isoTime(from)} are left out: --since names an earlier time`]
    : []
  const asText = (): string => {
    const listed = found.slice(0, LISTED)
    const rows = rowsWithNotes(listed, rowOf, refusedIn(others))
    const isAll = listed.length === found.length && unread.size === 0
    const shown = isAll ? views : [...new Set(listed.map(({ view }) => view))]
    const paragraphs = [
      ...orphans,
      ...formatBarred(views),
      ...rows.map(([row, notes], at) => formatRefusal(row, listed[at]!.view, notes)),
      // Who names a container asks why something in it failed.
      ...(rows.length === 0 || word === undefined ? [] : [formatUnseen(views[0]!)]),
      ...(rows.length === 0 ? [] : formatUnknown(shown)),
      ...formatAllDropped(shown),
      ...formatRest(found.slice(listed.length), [...unread.values()]),
    ]
    const text = paragraphs.length === 0 ? [formatNone(feeds, word, since, views)] : paragraphs
    return `${[...text, ...leftOut].join('\n\n')}\n`
  }
  if (format.kind !== 'table') for (const text of [...orphans, ...leftOut]) say(text)
  print(formatRows(format, () => rowsWithNotes(found, rowOf, refusedIn(others)).map(withNote), asText))
}
