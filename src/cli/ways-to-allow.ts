import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Dev, Mode } from '../abi/brand.ts'
import type { ErrnoName } from '../abi/errno.ts'
import { fileType, major, minor, S_IFBLK, S_IFCHR } from '../abi/stat.ts'
import { type ParsedCall, parseCall } from '../calls/parse-call.ts'
import { knownFileSystems } from '../keeper/ineffective-keys.ts'
import { orElse } from '../kernel/error.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import type { RefusalView, WantedKey } from '../memories/refusal-view.ts'
import { listable } from '../policy/attributes.ts'
import { GRANTED, harmless, written } from '../policy/devices.ts'
import { essentialTo } from '../policy/ineffective.ts'
import { fullName } from '../policy/key.ts'
import { type Origin, parseOrigin } from '../policy/key-value-lines.ts'
import { type CallName, callOf, type KeyName, keys } from '../policy/keys.ts'
import { type ContainerView, type KeyEntry, LXC, RUN, text, turnOnBy } from '../reader/container-fields.ts'
import { barredBy } from '../reader/container-view.ts'
import { namesBlockDevice } from '../runtimes/bundle.ts'
import { at, isJudged, isServed } from './open-feed.ts'
import { attributeAt, familyOfShown, type Needed, TYPE_OF } from './run-report.ts'

/** What an administrator can do so that a refused call is done, and what that means. */
export interface WaysToAllow {
  /** What allows it now: a command, or why there is none. */
  readonly now: string
  /** The command, if there is one. */
  readonly set?: string
  /** What allows it for containers to come. */
  readonly forGood: string
  readonly allows: string
}

export const ALLOWED = 'nothing: it is allowed by now'
/** Of a container whose daemon has ended. */
const RESTART = 'restart the container: it is not served any more'
const START = 'start the daemon: the container is not served'
/** Of a container in observe mode. */
const OBSERVED = `set ${fullName('mode')} to enforce: the other keys allow it by now`
/** Of a container that is not served any more: what the configuration says by now is not known. */
const UNLESS = 'unless that is so already: '
/** Of one that has ended. */
const OBSERVED_BY_SET = 'nothing: only "intercede set" had this container observed'
/** What a call needs of a container that is observed, or is again without `intercede set`. */
const ENFORCE: Needed = { key: 'mode', value: 'enforce' }
const ENFORCED = 'nothing: the container is no longer observed'
const LEFT = 'nothing of its policy, which allows it by now: all calls are left to the kernel'
const VALID = 'nothing: the policy is valid by now'
/** Of a container that is not served any more: what the configuration says by now is not known. */
const WAS_ALLOWED =
  'nothing, unless the configuration has changed since: it allowed that when the container was last served'
/** Of a call whose key was off: its record does not say what else it needs. */
const ON_BY_NOW = 'nothing by this key, which is on by now: repeat the call, which may need more'
/** Of a container that has ended. */
const WAS_LOWERED = 'nothing: only "intercede set" had taken it away, from this container'
const WAS_SET = 'allow it for good: "intercede set" did so only for this container'

/** What to give to a call that does nothing without it, where the call that was refused does not say. */
const ESSENTIAL: { readonly [Call in CallName]?: WantedKey } = { bpf: { key: 'bpf.devices', value: 'true' } }
/** Of a mount whose file system its record does not name: no command can. */
const CHOOSE =
  'mount=true does nothing alone: choose mount.allowed=TYPE or mount.fuse=TYPE=PROGRAM too, for what it mounts'

/** Of steps that are joined, these say that there is nothing to do. */
const SAYS_NOTHING: ReadonlySet<string> = new Set([WAS_ALLOWED, ALLOWED, OBSERVED])

/** The part of docs/guide/security.md that says why the act is safe. */
const SAFETY: Readonly<Record<CallName, string>> = {
  mknod: 'mknod',
  bpf: 'loadprogram',
  mount: 'mount',
  sched_setscheduler: 'schedule',
  rlimits: 'limit',
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
function changedIn({ daemon, feed }: Pick<Around, 'daemon' | 'feed'>): string {
  if (!daemon) return 'in the configuration of its daemon, then a reload of that'
  const { configPath, forUser = false } = daemon
  const reload = forUser ? 'SIGHUP to the daemon' : `"${orderAt(feed, 'reload')}"`
  return `in ${configPath ?? "the daemon's configuration"}, then ${reload}`
}

/** A list is written so that it can also stand in braces. */
const yamlOf = (key: KeyName, value: string): string =>
  `"${fullName(key)}: ${value.includes(',') ? `[${value.replaceAll(',', ', ')}]` : value}"`

/** Says which line to write for a key, and where: a second line of the same key would be an error. */
function lineFor(key: KeyName, value: string, about: ContainerView['about'], file: string): string {
  const { kind, name } = originOf(key, about)
  const own = originNow(lasting(((about.keys ?? {}) as Keys)[key]))
  const isThere = ['profile', 'configuration'].includes(own.kind) && own.kind === kind && own.name === name
  const yaml = `${yamlOf(key, value)}${isThere ? ' in place of its value' : ''}`
  if (kind === 'profile') return `${yaml} under profiles: ${name}: ${file}`
  if (kind === 'metadata')
    return `make its seccomp profile with its keys and -c ${key}=${value}, and the container anew`
  if (kind === 'annotation' || kind === 'unreadable')
    return `change the annotation ${fullName(key)} of the container, and where its profile lacks the value too, the profile: an annotation only lowers`
  return `${yaml} under default: or in its profile ${file}`
}

/** Why nobody can set keys; undefined if an administrator can. */
function closedTo(runtime: string, forUser: boolean): string | undefined {
  if (runtime === RUN) return 'nothing: the policy of a run is that of its command line'
  return forUser ? 'nothing: a daemon of --user takes no orders' : undefined
}

const needsRoot = (key: WantedKey['key']): boolean => [key, callOf(key)].some((each) => keys[each].rootless === false)

/** What an order must say beside the key. */
interface Around {
  /** The word of a command line that means the container. */
  readonly word: string
  /** The feed socket by which the daemon was asked, if it was named. */
  readonly feed?: string | undefined
  /** Undefined where history is of another daemon than the one that was asked. */
  readonly daemon: Partial<Pick<DaemonTotals, 'forUser' | 'configPath'>> | undefined
  /** Says whether the kernel has a file system. */
  knows(fileSystem: string): boolean
}

type Keys = Readonly<Partial<Record<KeyName, KeyEntry>>>

const originNow = (entry?: KeyEntry): Origin => (entry ? parseOrigin(entry.origin) : { kind: 'default' })

/** Returns what a key has without `intercede set`. */
const lasting = (entry?: KeyEntry): KeyEntry | undefined =>
  entry && originNow(entry).kind === 'set' ? entry.instead : entry

/**
 * Returns where a key lastingly comes from. What holds for all containers is changed where the container has keys of
 * its own: in the profile of the configuration, or in the metadata of its seccomp profile.
 */
function originOf(key: KeyName, { keys: all = {}, profile }: ContainerView['about']): Origin {
  const own = originNow(lasting((all as Keys)[key]))
  if (own.kind !== 'default' && own.kind !== 'configuration') return own
  if (typeof profile === 'string') return { kind: 'profile', name: profile }
  const others = Object.values(all as Keys).map((entry) => originNow(lasting(entry)))
  const first = (wanted: Origin['kind']): Origin | undefined => others.find(({ kind }) => kind === wanted)
  return first('profile') ?? first('metadata') ?? own
}

/** Whether a key has a value, or more, without `intercede set`. */
const isLasting = ({ key, value }: Needed, all: Keys): boolean =>
  all[key] !== undefined && keys[key].lowers(keys[key].canonical(lasting(all[key])?.value || keys[key].default), value)

/** Returns the ceiling of the configuration that keeps a key of a container below a value; undefined if none does. */
export function ceilingBelow({ about }: Pick<ContainerView, 'about'>, { key, value }: Needed): string | undefined {
  const { ceiling } = ((about.keys ?? {}) as Keys)[key] ?? {}
  return ceiling === undefined || keys[key].lowers(ceiling, keys[key].canonical(value)) ? undefined : ceiling
}

/** Adds an element to a list that may have it; a value of another type takes the place of the value. */
const addToList = (key: KeyName, list: string, value: string): string =>
  keys[key].isList && list !== '' ? keys[key].canonical(`${list},${value}`) : value

const textIn = (call: ParsedCall, index: number): string =>
  Buffer.from(call.memory.get(call.args[index]!)?.bytes ?? [])
    .toString('latin1')
    .replace(/\0.*/s, '')

/** Returns what a call of mknod(2) or mknodat(2) makes. */
const deviceIn = ({ name, args }: ParsedCall): readonly [mode: Mode, dev: Dev] =>
  args.slice(name === 'mknod' ? 1 : 2).map(Number) as [Mode, Dev]

/** Returns the block device that a call makes, if it is not known that the container's device rules name it. */
function unnamedDevice({ about: { bundle } }: ContainerView, { call }: RefusalView): UnnamedDevice | undefined {
  const [mode, dev] = deviceIn(parseCall(call))
  const isNamed = fileType(mode) === S_IFBLK ? namesBlockDevice(text(bundle), major(dev), minor(dev)) : true
  return isNamed ? undefined : { device: `${major(dev)}:${minor(dev)}`, isKnown: isNamed === false }
}

interface UnnamedDevice {
  readonly device: string
  /** Whether it is known that the rules do not name it. */
  readonly isKnown: boolean
}

/** Tells whether a program mounts a file system. */
const isMounted = (type: string, all: Keys): boolean =>
  (all['mount.fuse']?.value ?? '').split(',').some((each) => each.startsWith(`${type}=`))

/**
 * Returns what a call needs beside its key, which was off, as far as its arguments tell.
 *
 * @returns undefined if they do not, or no key would be enough
 */
function alsoWanted({ call, reason, wants }: RefusalView, all: Keys): readonly WantedKey[] | undefined {
  if (reason !== 'keyOff' || !wants || wants.key !== callOf(wants.key)) return []
  if (wants.key === 'sysinfo') return []
  const parsed = orElse(undefined, () => parseCall(call))
  if (!parsed) return undefined
  const listed = (key: KeyName, value: string): readonly WantedKey[] | undefined =>
    orElse(undefined, () => [{ key: key as WantedKey['key'], value: keys[key].canonical(value) }])
  if (wants.key === 'setxattr') {
    const name = textIn(parsed, attributeAt(parsed.name))
    if (name === 'trusted.overlay.opaque') return []
    const one = listable(name)
    return one === undefined ? undefined : listed('setxattr.allowed', one)
  }
  if (wants.key === 'mknod') {
    const [mode, dev] = deviceIn(parsed)
    if (fileType(mode) === S_IFBLK) return listed('mknod.devices', GRANTED)
    if (fileType(mode) !== S_IFCHR) return []
    return harmless.includes(dev) ? [] : listed('mknod.devices', written(dev))
  }
  const at = TYPE_OF[parsed.name]
  const type = at === undefined ? '' : textIn(parsed, at)
  if (type === '') return undefined
  return isMounted(type, all) ? [] : listed('mount.allowed', type)
}

/** Whether the device rules of a container decide, too. */
const dependsOnRules = ({ value }: Needed): boolean => value === GRANTED

const isObserved = ({ about }: ContainerView): boolean => (about.keys as Keys | undefined)?.mode?.value === 'observe'
/** Whether it is observed without `intercede set`. */
const isObservedForGood = ({ about }: ContainerView): boolean =>
  lasting((about.keys as Keys | undefined)?.mode)?.value === 'observe'
const allowed = (view: ContainerView): string => {
  if (isObserved(view)) return OBSERVED
  if (view.state === 'unserved') return view.runtime === LXC ? START : RESTART
  return view.state === 'ended' ? WAS_ALLOWED : ALLOWED
}

/** Returns the command that gives an order to the same daemon. */
const orderAt = (feed: string | undefined, order: 'set' | 'reload'): string => at(feed, `intercede ${order}`)

/** Says what allows it for containers to come. A ceiling is raised first: what is above it would be lowered. */
function forGoodOf(view: ContainerView, wanted: Needed, { daemon, word, feed }: Around): string {
  const { key, value } = wanted
  const all = (view.about.keys ?? {}) as Keys
  if (isLasting(wanted, all)) return isServed(view) ? `${orderAt(feed, 'set')} ${word} --unset ${key}` : allowed(view)
  const ceiling = ceilingBelow(view, wanted)
  const { value: now = '', asked = now } = lasting(all[key]) ?? {}
  const file = changedIn({ daemon, feed })
  const line = lineFor(key, addToList(key, asked, value), view.about, file)
  const already = view.state === 'ended' ? UNLESS : ''
  const entry = all[key]
  const isHidden = isServed(view) && originNow(entry).kind === 'set' && !keys[key].lowers(entry!.value, value)
  const whole = `${already}${line}${isHidden ? '; in this container "intercede set" holds over it' : ''}`
  if (ceiling === undefined) return whole
  const raise =
    view.state === 'ended' ? `if its ceiling is still ${JSON.stringify(ceiling)}, raise it` : 'raise its ceiling'
  const higher = `${yamlOf(key, addToList(key, ceiling, value))} under ceiling: ${file}`
  return keys[key].lowers(keys[key].canonical(asked || keys[key].default), value)
    ? `${raise}: ${higher}`
    : `${raise} first: ${higher}; and ${whole}`
}

/** @param closed why nobody can set keys */
const nowBy = (command: string, closed?: string): Pick<WaysToAllow, 'now' | 'set'> =>
  closed === undefined ? { now: command, set: command } : { now: closed }

/** Tells whether a call is off, so that no option of it does anything. */
const isOff = (call: CallName, all: Keys): boolean =>
  all[call] !== undefined && !keys[call].lowers(all[call].value, 'true')

/** Tells whether a call has one of the options without which it does nothing. */
const hasEssential = (call: CallName, all: Keys): boolean =>
  essentialTo(call).some((name) => (all[name]?.value ?? '') !== keys[name].default)

/** Tells whether a key has a value, or more. */
const hasValue = ({ key, value }: Needed, all: Keys): boolean =>
  keys[key].lowers(keys[key].canonical(all[key]?.value || keys[key].default), value)

/** Returns what an observed call wants: as one whose key was off, which says nothing of its other keys either. */
function asWanting(refusal: RefusalView): RefusalView {
  const family = refusal.reason === 'observedAct' ? familyOfShown(refusal.call) : undefined
  return family ? { ...refusal, reason: 'keyOff', wants: { key: family, value: 'true' } } : refusal
}

/** Returns all that a call needs, and whether its arguments tell; undefined where no key would be enough. */
function needsOf(view: ContainerView, given: RefusalView): (Needs & { readonly wants: WantedKey }) | undefined {
  const refusal = asWanting(given)
  const { wants } = refusal
  if (!wants) return undefined
  const all = (view.about.keys ?? {}) as Keys
  const { key } = wants
  const call = callOf(key)
  const also = alsoWanted(refusal, all)
  const isAlone = key === call && !also?.length
  const essential = isAlone ? ESSENTIAL[call] : undefined
  return {
    ...{ wants, isTold: also !== undefined && ![wants, ...also].some(dependsOnRules) },
    isChosen: !isAlone || call !== 'mount' || hasEssential(call, all),
    whole: [
      ...(all[call] && key !== call ? [{ key: call, value: 'true' }] : []),
      ...[wants, ...(also ?? []), ...(essential ? [essential] : [])],
      ...(isObserved(view) || isObservedForGood(view) ? [ENFORCE] : []),
    ],
  }
}
/** Returns the keys that would allow a call, as far as its arguments tell; undefined where no key would be enough. */
export const keysNeeded = (view: ContainerView, refusal: RefusalView): readonly Needed[] | undefined =>
  orElse(undefined, () => needsOf(view, refusal)?.whole.filter((each) => each !== ENFORCE))

interface Needs {
  readonly whole: readonly Needed[]
  readonly isTold: boolean
  /** Whether it is known what a mount needs beside its key. */
  readonly isChosen: boolean
}

/** Returns how a refused call can be allowed; undefined where no key would do it. */
export function waysToAllow(view: ContainerView, refusal: RefusalView, around: Around): WaysToAllow | undefined {
  const { runtime, about } = view
  const { forUser = false } = around.daemon ?? {}
  const needs = needsOf(view, refusal)
  if (!needs || (forUser && needsRoot(needs.wants.key))) return undefined
  const { whole, isTold, isChosen, wants } = needs
  const { key, value } = wants
  if (key === 'mount.allowed' && !around.knows(value)) return undefined
  const all = (about.keys ?? {}) as Keys
  const wanted = whole.filter((each) => !hasValue(each, all))
  const words = wanted.map((each) => `${each.key}=${addToList(each.key, all[each.key]?.value ?? '', each.value)}`)
  const above = wanted.find((each) => ceilingBelow(view, each) !== undefined)
  const barred = above && `${above.key === key ? 'it' : above.key} is above the ceiling`
  const unnamed = whole.some(dependsOnRules) ? unnamedDevice(view, refusal) : undefined
  const beyond = unnamed?.isKnown
    ? `nothing: its device rules do not name ${unnamed.device}, so ${GRANTED} does not make it`
    : above && `nothing: ${barred} ${JSON.stringify(all[above.key]!.ceiling)} of the configuration`
  const set = `${orderAt(around.feed, 'set')} ${around.word} ${words.join(' ')}`
  const nothing = isTold ? allowed(view) : ON_BY_NOW
  const lacking = whole.filter((each) => !hasValue(each, all) || !isLasting(each, all))
  const steps = lacking.map((each) => forGoodOf(view, each, around)).filter((step) => !SAYS_NOTHING.has(step))
  if (!isChosen) steps.push(CHOOSE)
  if (unnamed)
    steps.unshift(
      unnamed.isKnown
        ? `start the container with ${unnamed.device}, for podman by --device`
        : `unless its device rules name ${unnamed.device}, start the container with it, for podman by --device`,
    )
  const isOver = lacking.some((each) => each === ENFORCE) && view.state === 'ended'
  const forGood = steps.join('; and ') || (isOver ? OBSERVED_BY_SET : WAS_ALLOWED)
  return {
    ...nowBy(set, wanted.length === 0 ? nothing : (closedTo(runtime, forUser) ?? (isChosen ? beyond : CHOOSE))),
    forGood: lacking.length === 0 ? nothing : runtime === RUN ? ofRun(words, isChosen) : forGood,
    allows:
      refusal.reason === 'observedAct'
        ? `all that its other keys allow; ${securityPage()} says why that is safe`
        : `${keys[key].help}; ${securityPage()}#${SAFETY[callOf(key)]} says why that is safe`,
  }
}

/** Says what to change in the command line of a run. */
function ofRun(words: readonly string[], isChosen: boolean): string {
  if (!isChosen) return CHOOSE
  return words.join() === 'mode=enforce'
    ? 'leave mode=observe out of the options of "intercede run"'
    : `add "-c ${words.join(' -c ')}" to the options of "intercede run"`
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

const isInvalid = (view: ContainerView): boolean => barredBy(view) === 'policyInvalid'

/** Says what comes first for a container whose policy is invalid: what its calls need is known once it is valid. */
function correctFirst({ about, state }: ContainerView, around: Omit<Around, 'knows'>): string {
  const { says } = about.barred as { readonly says: string }
  const already = state === 'ended' ? UNLESS : ''
  return `${already}correct its policy first, ${changedIn(around)}, or in its metadata, and make the container anew: ${says}`
}

let fileSystems: ReadonlySet<string> | undefined
/** Says whether the kernel has a file system, or whether that cannot be found out. */
function knows(name: string): boolean {
  fileSystems ??= knownFileSystems()
  return fileSystems.size === 0 || fileSystems.has(name)
}

/** Returns what allows a call now and for good; only for good if the container has ended, or its calls are left. */
function findWays(view: ContainerView, refusal: RefusalView, around: Omit<Around, 'knows'>): Partial<WaysToAllow> {
  // What the directory or history names may be of another version, or nothing that we know.
  const ways = orElse(undefined, () => waysToAllow(view, refusal, { ...around, knows }))
  if (ways && isInvalid(view)) return { forGood: correctFirst(view, around) }
  if (!ways || isJudged(view)) return ways ?? {}
  const { now: _, set: __, ...later } = ways
  return later.forGood === ALLOWED ? {} : later
}

const knownWays = new Map<string, Partial<WaysToAllow>>()
/** Finds each way once: a thousand containers of a build farm were refused the same calls for the same reasons. */
export function waysOf(view: ContainerView, refusal: RefusalView, around: Omit<Around, 'knows'>): Partial<WaysToAllow> {
  const { runtime, state, about } = view
  const { keys: all, annotations, profile, barred } = about
  const call = ['keyOff', 'notCharDevice'].includes(refusal.reason) ? refusal.call : ''
  const { reason, wants } = refusal
  const alike = [all, annotations, profile, barred, reason, wants, call, runtime, state, around.word]
  const what = JSON.stringify(call.includes('S_IFBLK') ? [...alike, about.bundle] : alike)
  const ways = knownWays.get(what) ?? findWays(view, refusal, around)
  knownWays.set(what, ways)
  return ways
}

/** Says by what a key is off. */
function turnOn(view: ContainerView, wanted: WantedKey): string {
  const all = (view.about.keys ?? {}) as Keys
  const entry = all[wanted.key] ?? { value: 'false', origin: 'default' }
  const wasSet = entry.asked === undefined && originNow(entry).kind === 'set'
  const isOver = wasSet && view.state === 'ended' && isLasting(wanted, all)
  return isOver ? 'nothing: only "intercede set" had turned it off, for this container' : turnOnBy(entry)
}

/** Of calls that were left while engines kept failing, once one serves. */
const SERVES_AGAIN = {
  says: 'no engine served then, so the call was left to the kernel',
  remedy: 'nothing: an engine serves by now, so repeat the call',
}

/** Returns the remedy of a refusal, and why it was, where that depends on more than the reason. */
export const remedyHere = (...about: Parameters<typeof findRemedy>): ReturnType<typeof findRemedy> =>
  // What the directory or history names may be of another version, or nothing that we know.
  orElse({}, () => findRemedy(...about))

function findRemedy(
  view: ContainerView,
  refusal: RefusalView,
  isKnown = knows,
): Partial<Pick<RefusalView, 'says' | 'remedy'>> {
  const { reason, wants } = refusal
  if (wants && isInvalid(view)) return { remedy: (view.about.barred as { readonly remedy: string }).remedy }
  if (reason === 'kernelAnswered') return { remedy: kernelAnswer(refusal) }
  if (reason === 'noEngine') return isJudged(view) ? SERVES_AGAIN : {}
  if (reason.startsWith('observed')) {
    const isTold = isJudged(view) || (view.state === 'ended' && view.about.keys !== undefined)
    if (!isTold || isObserved(view)) return {}
    const all = (view.about.keys ?? {}) as Keys
    const lacks = (needsOf(view, refusal)?.whole ?? []).filter((each) => !hasValue(each, all))
    if (lacks.length > 0)
      return { remedy: `add ${lacks.map((each) => `${each.key}=${each.value}`).join(' ')}: it is no longer observed` }
    return { remedy: view.state === 'ended' && isObservedForGood(view) ? WAS_SET : ENFORCED }
  }
  if (reason === 'policyInvalid') return isServed(view) && barredBy(view) !== reason ? { remedy: VALID } : {}
  if (!wants) return {}
  const { key, value } = wants
  if (key === 'mount.allowed' && !isKnown(value))
    return { remedy: `mount it by FUSE: this kernel has no file system ${JSON.stringify(value)}` }
  const all = (view.about.keys ?? {}) as Keys
  const entry = all[key]
  const call = callOf(key)
  if (key !== call && isOff(call, all)) return { remedy: turnOn(view, { key: call, value: 'true' }) }
  if (keys[key].lowers(entry?.value || keys[key].default, value)) {
    if (view.state === 'left') return { remedy: LEFT }
    if (!isServed(view) && !isLasting(wants, all)) return { remedy: WAS_SET }
    const also = alsoWanted(refusal, all)
    if (!also || dependsOnRules(wants)) return { remedy: ON_BY_NOW }
    const lacks = also.filter((each) => !hasValue(each, all)).map((each) => `${each.key}=${each.value}`)
    if (lacks.length > 0) return { remedy: `add ${lacks.join(' ')} too: its key is on by now` }
    if (also.some(dependsOnRules)) return { remedy: ON_BY_NOW }
    return { remedy: allowed(view) }
  }
  if (reason === 'keyOff') return { remedy: turnOn(view, wants) }
  if (view.state === 'ended' && isLasting(wants, all)) return { remedy: WAS_LOWERED }
  return view.state === 'ended' && refusal.remedy ? { remedy: `unless it is allowed by now: ${refusal.remedy}` } : {}
}
