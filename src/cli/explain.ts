import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { ErrnoName } from '../abi/errno.ts'
import { isoTime } from '../calls/escape.ts'
import { explainInGeneral, type ReasonCode, reasonCodes } from '../calls/reasons.ts'
import { knownFileSystems } from '../keeper/ineffective-keys.ts'
import { orElse } from '../kernel/error.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import type { RefusalView, WantedKey } from '../memories/refusal-view.ts'
import { essentialTo } from '../policy/ineffective.ts'
import { fullName } from '../policy/key.ts'
import { type Origin, parseOrigin } from '../policy/key-value-lines.ts'
import { type CallName, callOf, type KeyName, keys } from '../policy/keys.ts'
import type { ContainerView, KeyEntry } from '../reader/container-fields.ts'
import { barredBy, earlierOf, isCalled, isStray, type RefusalRow, whichOf } from '../reader/container-view.ts'
import { DaemonSilent } from '../reader/feed.ts'
import { briefly, byKey, counted, fewOf } from '../shared/texts.ts'
import { FORMATS } from './formats.ts'
import {
  type Feeds,
  formatContainer,
  formatDropped,
  isServed,
  LXC,
  listedSince,
  openFeeds,
  type ReadOptions,
  RUN,
  requireContainer,
  sayMissing,
  unmistakable,
  whyLeft,
} from './open-feed.ts'
import { ago, formatCaller, formatRows, formatValue, type OutputFormat, parseFormat } from './output-format.ts'
import { print, say } from './print.ts'

/** What an administrator can do so that a refused call is done, and what that means. */
interface WaysToAllow {
  /** The command that allows it now. */
  readonly set: string
  /** What allows it for containers to come. */
  readonly forGood: string
  readonly allows: string
}

const ALLOWED = 'nothing: it is allowed by now'
const LEFT = 'nothing of its policy, which allows it by now: all calls are left to the kernel'
const VALID = 'nothing: the policy is valid by now'
const WAS_SET = 'allow it for good: "intercede set" did so only for this container'

/** A call that does nothing without a list, and what to put into that. */
const LISTS: { readonly [Call in CallName]?: string } = {
  mount: 'mount.fuse=TYPE=PROGRAM',
  bpf: 'bpf.devices=true',
}

/** The part of docs/guide/security.md that says why the act is safe. */
const SAFETY: Readonly<Record<CallName, string>> = {
  mknod: 'mknod',
  bpf: 'loadprogram',
  mount: 'mount',
  sched_setscheduler: 'schedule',
  setxattr: 'setxattr',
  sysinfo: 'report',
}

const SECURITY = 'docs/guide/security.md'
/** The page where this installation has it: the package of Debian has a link to its documents. */
const securityPage = (): string => {
  foundPage ??= orElse(SECURITY, () => realpathSync(fileURLToPath(new URL(`../../${SECURITY}`, import.meta.url))))
  return foundPage
}
let foundPage: string | undefined

/** Where the configuration is, and how it is read again. */
const changedIn = ({ configPath, forUser = false }: Around['daemon']): string =>
  `in ${configPath ?? "the daemon's configuration"}, then ${forUser ? 'SIGHUP to the daemon' : '"intercede reload"'}`

const yamlOf = (key: KeyName, value: string): string => `"${fullName(key)}: ${value}"`

function lineFor({ kind, name }: Origin, key: KeyName, value: string, file: string): string {
  const yaml = yamlOf(key, value)
  if (kind === 'profile') return `${yaml} under profiles: ${name}: ${file}`
  if (kind === 'metadata')
    return `make its seccomp profile with its keys and -c ${key}=${value}, and the container anew`
  if (kind === 'annotation' || kind === 'unreadable') return `change the annotation ${fullName(key)} of the container`
  return `${yaml} under default: or in its profile ${file}`
}

/** Why nobody can set keys; undefined if an administrator can. */
function closedTo(runtime: string, forUser: boolean): string | undefined {
  if (runtime === RUN) return 'nothing: the policy of a run is that of its command line'
  return forUser ? 'nothing: a daemon of --user takes no orders' : undefined
}

const needsRoot = (key: KeyName): boolean => [key, callOf(key)].some((each) => keys[each].rootless === false)

/** What an order must say beside the key. */
interface Around {
  /** The word of a command line that means the container. */
  readonly word: string
  readonly daemon: Partial<Pick<DaemonTotals, 'forUser' | 'configPath'>>
  /** Says whether the kernel has a file system. */
  knows(fileSystem: string): boolean
}

type Keys = Readonly<Partial<Record<KeyName, KeyEntry>>>

const originNow = (entry?: KeyEntry): Origin => (entry ? parseOrigin(entry.origin) : { kind: 'default' })

/** Returns what a key has without `intercede set`. */
const lasting = (entry?: KeyEntry): KeyEntry | undefined =>
  entry && originNow(entry).kind === 'set' ? entry.instead : entry

/** Returns where a key lastingly comes from. A default is changed in the profile of the container, if it has one. */
function originOf(key: KeyName, { keys: all = {}, profile }: ContainerView['about']): Origin {
  const own = originNow(lasting((all as Keys)[key]))
  if (own.kind !== 'default') return own
  if (typeof profile === 'string') return { kind: 'profile', name: profile }
  const others = Object.values(all as Keys).map((entry) => originNow(lasting(entry)))
  return others.find(({ kind }) => kind === 'profile') ?? own
}

/** Whether a key has a value, or more, without `intercede set`. */
const isLasting = ({ key, value }: WantedKey, all: Keys): boolean =>
  all[key] !== undefined && keys[key].lowers(keys[key].canonical(lasting(all[key])?.value || keys[key].default), value)

/** Adds an element to a list that may have it; a value of another type takes the place of the value. */
const addToList = (key: KeyName, list: string, value: string): string =>
  keys[key].isList && list !== '' ? keys[key].canonical(`${list},${value}`) : value

/** Says what allows it for containers to come. A ceiling is raised first: what is above it would be lowered. */
function forGoodOf(view: ContainerView, wanted: WantedKey, { daemon, word }: Around): string {
  const { key, value } = wanted
  const all = (view.about.keys ?? {}) as Keys
  if (isLasting(wanted, all)) return isServed(view) ? `intercede set ${word} --unset ${key}` : ALLOWED
  const { ceiling } = all[key] ?? {}
  const { value: now = '', asked = now } = lasting(all[key]) ?? {}
  const [whole, file] = [addToList(key, asked, value), changedIn(daemon)]
  const line = lineFor(originOf(key, view.about), key, whole, file)
  // What the configuration says by now is not known of a container that has ended.
  const already = view.state === 'ended' ? 'unless that is so already: ' : ''
  if (ceiling === undefined || keys[key].lowers(ceiling, keys[key].canonical(value))) return `${already}${line}`
  return `${already}raise its ceiling first: ${yamlOf(key, addToList(key, ceiling, value))} under ceiling: ${file}; and ${line}`
}

/** Tells whether a call is off, so that no option of it does anything. */
const isOff = (call: CallName, all: Keys): boolean =>
  all[call] !== undefined && !keys[call].lowers(all[call].value, 'true')

/** Tells whether a call has one of the options without which it does nothing. */
const hasEssential = (call: CallName, all: Keys): boolean =>
  essentialTo(call).some((name) => (all[name]?.value ?? '') !== keys[name].default)

/** Returns how a refused call can be allowed; undefined where no key would do it. */
export function waysToAllow(view: ContainerView, { wants }: RefusalView, around: Around): WaysToAllow | undefined {
  const { runtime, about } = view
  const { forUser = false } = around.daemon
  if (!wants || (forUser && needsRoot(wants.key))) return undefined
  const { key, value } = wants
  if (key === 'mount.allowed' && !around.knows(value)) return undefined
  const all = (about.keys ?? {}) as Keys
  const entry = all[key]
  const { value: now = '', ceiling } = entry ?? {}
  const call = callOf(key)
  const isListed = keys[key].lowers(keys[key].canonical(now || keys[key].default), value)
  const isAllowed = isListed && !isOff(call, all)
  const more = key === call && !hasEssential(call, all) ? LISTS[call] : undefined
  const wanted = [
    ...(isOff(call, all) && key !== call ? [{ key: call, value: 'true' }] : []),
    ...(isListed ? [] : [wants]),
  ]
  const words = [
    ...wanted.map((each) => `${each.key}=${addToList(each.key, all[each.key]?.value ?? '', each.value)}`),
    ...(more === undefined ? [] : [more]),
  ]
  const isAbove = ceiling !== undefined && !keys[key].lowers(ceiling, value)
  const above = `nothing: it is above the ceiling ${JSON.stringify(ceiling)} of the configuration`
  const set = isAbove ? above : `intercede set ${around.word} ${words.join(' ')}`
  const holds = isAllowed && isLasting(wants, all)
  const onRun = `add "-c ${words.join(' -c ')}" to the options of "intercede run"`
  const steps = (isAllowed ? [wants] : wanted).map((each) => forGoodOf(view, each, around))
  const forGood = runtime === RUN ? onRun : steps.join('; and ')
  return {
    set: isAllowed ? ALLOWED : (closedTo(runtime, forUser) ?? set),
    forGood: holds ? ALLOWED : forGood,
    allows: `${keys[key].help}; ${securityPage()}#${SAFETY[call]} says why that is safe`,
  }
}

/** What an errno of the kernel usually means for the calls that are served. */
const USUALLY: { readonly [Name in ErrnoName]?: string } = {
  EACCES: 'the caller may not search a directory of the path, or write there',
  EBADF: 'the descriptor is not open, or has another kind',
  EBUSY: 'the device or the target is already in use',
  EEXIST: 'the name already exists',
  EINVAL: 'an option or a flag is wrong, or the device contains another file system',
  EISDIR: 'the path names a directory, or ends with a slash',
  ELOOP: 'the path has too many links',
  ENAMETOOLONG: 'a part of the path is too long',
  ENODEV: 'the kernel has no such file system or device',
  ENOENT: 'a part of the path does not exist for the caller',
  ENOMEM: 'the memory of the container, or of the machine, is used up',
  ENOSPC: 'the file system is full, or a limit of the container is reached',
  ENOTBLK: 'the source is a file, not a block device: use a loop device or mount.fuse',
  ENOTDIR: 'a part of the path is not a directory',
  ENXIO: 'there is no device with that number',
  EOPNOTSUPP: 'the file system cannot do that',
  EPERM: 'the file system, a security module or a flag such as immutable forbids it even to root',
  EROFS: 'the file system is read-only',
  ESRCH: 'there is no such process',
}

/** Says what an errno means that the kernel itself has given, to a call that was done for the caller. */
export function kernelAnswer({ errno = 'an errno', call }: Pick<RefusalView, 'errno' | 'call'>): string {
  const [name] = /^\w+/.exec(call) ?? ['the call']
  const usually = USUALLY[errno as ErrnoName]
  const meaning = usually === undefined ? '' : `, usually because ${usually}`
  return `no key changes that: the kernel itself answered ${errno}${meaning}; "man 2 ${name}" lists what it may mean`
}

interface ExplainOptions extends ReadOptions {
  readonly since?: number
}

interface Explained extends RefusalRow, Partial<WaysToAllow> {
  /** When the container ended, in ISO 8601. */
  readonly ended?: string
}

type Daemon = Partial<DaemonTotals>

let fileSystems: ReadonlySet<string> | undefined
/** Says whether the kernel has a file system, or whether that cannot be found out. */
function knows(name: string): boolean {
  fileSystems ??= knownFileSystems()
  return fileSystems.size === 0 || fileSystems.has(name)
}

/** Returns what allows a call now and for good; only for good if the container has ended, or its calls are left. */
function findWays(view: ContainerView, refusal: RefusalView, around: Around): Partial<WaysToAllow> {
  // What the directory or history names may be of another version, or nothing that we know.
  const ways = orElse(undefined, () => waysToAllow(view, refusal, around))
  if (!ways || view.state === 'served') return ways ?? {}
  const { set: _, ...later } = ways
  return later.forGood === ALLOWED ? {} : later
}

const knownWays = new Map<string, Partial<WaysToAllow>>()
/** Finds each way once: a thousand containers of a build farm were refused the same calls for the same reasons. */
function waysOf(view: ContainerView, refusal: RefusalView, around: Around): Partial<WaysToAllow> {
  const { keys: all, annotations, profile } = view.about
  const what = JSON.stringify([all, annotations, profile, refusal.wants, view.runtime, view.state, around.word])
  const ways = knownWays.get(what) ?? findWays(view, refusal, around)
  knownWays.set(what, ways)
  return ways
}

/** Says by what a key is off. */
function turnOn(entry: KeyEntry | undefined): string {
  if (entry?.asked !== undefined) return 'turn it on: it is off by the ceiling of the configuration'
  if (entry === undefined || entry.origin === 'default') return 'turn it on: off is the default'
  return `turn it on: it is off by ${entry.origin === 'set' ? '"intercede set"' : `its ${entry.origin}`}`
}

/** Returns the remedy of a refusal where it depends on more than the reason. */
export function remedyHere(
  view: ContainerView,
  refusal: RefusalView,
  isKnown = knows,
): Partial<Pick<RefusalView, 'remedy'>> {
  const { reason, wants } = refusal
  if (reason === 'kernelAnswered') return { remedy: kernelAnswer(refusal) }
  if (reason === 'policyInvalid') return isServed(view) && barredBy(view) !== reason ? { remedy: VALID } : {}
  if (!wants) return {}
  const { key, value } = wants
  if (key === 'mount.allowed' && !isKnown(value))
    return { remedy: `mount it by FUSE: this kernel has no file system ${JSON.stringify(value)}` }
  const all = (view.about.keys ?? {}) as Keys
  const entry = all[key]
  const call = callOf(key)
  if (key !== call && isOff(call, all)) return { remedy: turnOn(all[call]) }
  if (keys[key].lowers(entry?.value || keys[key].default, value)) {
    if (view.state === 'left') return { remedy: LEFT }
    return { remedy: isServed(view) || isLasting(wants, all) ? ALLOWED : WAS_SET }
  }
  if (reason === 'keyOff') return { remedy: turnOn(entry) }
  return view.state === 'ended' && refusal.remedy ? { remedy: `unless it is allowed by now: ${refusal.remedy}` } : {}
}

/** Returns why all calls of a container are left to the kernel, which is more than the reason says in general. */
const saysOf = ({ about }: ContainerView): Partial<Pick<RefusalView, 'says' | 'remedy'>> => {
  const { says, remedy } = about.barred as { readonly says: string; readonly remedy: string }
  return { says, ...(remedy ? { remedy } : {}) }
}

interface Found {
  readonly view: ContainerView
  readonly refusal: RefusalView
}

/** Returns what makes rows: finding the word of a container takes a look at all, so it is found once. */
function rowMaker(all: readonly ContainerView[], daemon: Daemon): (found: Found) => Explained {
  const words = new Map<ContainerView, string>()
  const wordOf = (view: ContainerView): string => {
    const word = words.get(view) ?? (isServed(view) ? unmistakable(all, view.id) : '')
    words.set(view, word)
    return word
  }
  return ({ view, refusal }) => {
    const { ended } = view.about
    return {
      ...whichOf(view),
      ...(typeof ended === 'number' ? { ended: new Date(ended).toISOString() } : {}),
      ...refusal,
      ...(refusal.reason === barredBy(view) ? saysOf(view) : {}),
      ...orElse({}, () => remedyHere(view, refusal)),
      ...waysOf(view, refusal, { word: wordOf(view), daemon, knows }),
    }
  }
}

/** Returns what says, per row, which other values of its key the rows of its container want: its command lacks them. */
function noteMaker(rows: readonly Explained[]): (row: Explained) => readonly string[] {
  const isOpen = ({ set, forGood }: Explained): boolean =>
    forGood !== undefined && set !== ALLOWED && forGood !== ALLOWED
  const wanted = rows.flatMap((row) => (row.wants && isOpen(row) ? [[keyIn(row), row.wants.value] as const] : []))
  const all = byKey(wanted)
  return (row) => {
    const others = [...new Set(all.get(keyIn(row)))].filter((value) => value !== row.wants?.value)
    if (others.length === 0 || !isOpen(row)) return []
    const also = `the container also asks for ${fewOf(others)} of ${row.wants!.key}`
    return [`  note:  ${also}: each command replaces the value, so put all that you allow into one`]
  }
}
const keyIn = ({ container, wants }: Explained): string => JSON.stringify([container, wants?.key])

/** Says when a container ended; if its daemon did not know it, only the process that was exec'd into it did. */
function formatEnd({ ended }: Explained, view: ContainerView): string {
  if (ended === undefined) return ''
  const when = ago(Date.now() - Date.parse(ended))
  if (isStray(view)) return `, whose process ended ${when}`
  return `, ended ${view.about.outlived === true ? 'less than ' : ''}${when}`
}

function formatRefusal(row: Explained, view: ContainerView, note: readonly string[]): string {
  const { count, first, call, verdict, errno, reason, says, remedy, time } = row
  // Those before `--since` are counted, too.
  const from = first === undefined ? '' : `, the first ${ago(Date.now() - Date.parse(first))}`
  const times = count === 1 ? 'once' : `${count} times${from}, the last`
  return [
    `${formatContainer({ ...row, id: row.container })}${formatEnd(row, view)}: ${call}${formatCaller(row)}`,
    `  ${verdict}${errno ? ` with ${errno}` : ' to the kernel'}, ${times} ${ago(Date.now() - time)} [${reason}]`,
    `  why:  ${formatValue(says)}`,
    ...(remedy ? [`  what to do:  ${formatValue(remedy)}`] : []),
    ...(row.set === undefined ? [] : [`  now:  ${formatValue(row.set)}`]),
    ...(row.forGood === undefined ? [] : [`  for good:  ${formatValue(row.forGood)}`]),
    ...(row.allows === undefined ? [] : [`  which allows:  ${formatValue(row.allows)}`]),
    ...note,
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
function formatUnserved(views: readonly ContainerView[]): readonly string[] {
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

const NO_HISTORY = 'Nothing was refused, as far as the daemon remembers: it keeps no history.'
function formatNone({ missing, hasHistory }: Feeds, word: string | undefined, since: number | undefined): string {
  if (missing) return 'Without the daemon, no refusal is known.'
  const where = word === undefined ? '' : ` in ${briefly(word)}`
  const when = since === undefined ? '' : ` since ${isoTime(since)}`
  return hasHistory || when !== '' ? `Nothing was refused${where}${when}.` : NO_HISTORY
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
  const { since, format: given, feed: path, history } = options
  const format = parseFormat(given, FORMATS.explain)
  const code = reasonCodes.find((each) => each === word)
  if (code !== undefined && !isContainer(code, options)) {
    explainCode(code, format)
    return
  }
  using feeds = openFeeds(path, { directory: history, since })
  const few = word === undefined && format.kind === 'table' ? { most: LISTED, since: since ?? 0 } : undefined
  const from = word === undefined ? (since ?? listedSince()) : 0
  const { views: all, unread, lost } = feeds.newest(from, word, few)
  const views = word === undefined ? all : withEarlier(all, requireContainer(feeds, word, all, reasonCodes), word)
  if (code !== undefined) say(`${briefly(code)} is also a reason: ${explainInGeneral(code).says}`)
  sayMissing(feeds)
  if (lost > 0) say(`History lacks ${counted(lost, 'line')} that could not be written: more may have been refused`)
  const daemon = feeds.daemon?.directory.daemon ?? {}
  const found = views
    .flatMap((view) => view.refusals.map((refusal) => ({ view, refusal })))
    .filter(({ refusal }) => refusal.time >= (since ?? 0))
    .sort(byImportance)
  const rowOf = rowMaker(all, daemon)
  const orphans = [...formatUnserved(views), ...formatRefused(feeds, views, since)]
  const asText = (): string => {
    const listed = found.slice(0, LISTED)
    const rows = listed.map(rowOf)
    const noteOf = noteMaker(rows)
    const isAll = listed.length === found.length && unread.size === 0
    const shown = isAll ? views : [...new Set(listed.map(({ view }) => view))]
    const paragraphs = [
      ...orphans,
      ...formatBarred(views),
      ...rows.map((row, at) => formatRefusal(row, listed[at]!.view, noteOf(row))),
      ...formatAllDropped(shown),
      ...formatRest(found.slice(listed.length), [...unread.values()]),
    ]
    return paragraphs.length === 0 ? `${formatNone(feeds, word, since)}\n` : `${paragraphs.join('\n\n')}\n`
  }
  if (format.kind !== 'table') for (const text of orphans) say(text)
  print(formatRows(format, () => found.map(rowOf), asText))
}
