import type { RefusalView } from '../memories/refusal-view.ts'
import { fullName } from '../policy/key.ts'
import { callOf } from '../policy/key-names.ts'
import { type CallName, type KeyName, keys } from '../policy/keys.ts'
import type { ContainerView } from '../reader/container-view.ts'
import { configFile } from './config-file.ts'
import { RUN } from './open-feed.ts'

/** What an administrator can do so that a refused call is done, and what that means. */
export interface WaysToAllow {
  /** The command that allows it now. */
  readonly set: string
  /** What allows it for containers to come. */
  readonly forGood: string
  readonly allows: string
}

interface KeyEntry {
  readonly value: string
  readonly origin: string
  readonly ceiling?: string
}

/** A call that does nothing without a list, and what to put into that. */
const LISTS: { readonly [Call in CallName]?: string } = {
  mount: 'mount.fuse=TYPE=PROGRAM',
  bpf: 'bpf.devices=true',
}

/** The part of docs/security.md that says why the act is safe. */
const SAFETY: Readonly<Record<CallName, string>> = {
  mknod: 'mknod',
  bpf: 'loadprogram',
  mount: 'mount',
  sched_setscheduler: 'schedule',
  setxattr: 'setxattr',
  sysinfo: 'report',
}

/** Where the configuration is, and how it is read again. */
const changedIn = (forUser: boolean): string =>
  `in ${configFile(forUser)}, then ${forUser ? 'SIGHUP to the daemon' : '"intercede reload"'}`

function lineFor(origin: string, assignment: string, key: KeyName, file: string): string {
  const yaml = `${fullName(key)}: ${assignment.slice(key.length + 1)}`
  const [, profile] = /^profile (.*)$/.exec(origin) ?? []
  if (profile !== undefined) return `"${yaml}" under profiles: ${profile}: ${file}`
  if (origin === 'metadata' || origin === 'set')
    return `make its seccomp profile with -c ${assignment}, or "${yaml}" in a profile of the configuration`
  if (origin.startsWith('annotation')) return `change the annotation ${fullName(key)} of the container`
  return `"${yaml}" under default: or in its profile ${file}`
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
  /** Whether a user runs the daemon. */
  readonly forUser: boolean
}

/** Returns how a refused call can be allowed; undefined where no key would do it. */
export function waysToAllow(
  { runtime, about }: ContainerView,
  { wants }: RefusalView,
  { word, forUser }: Around,
): WaysToAllow | undefined {
  if (!wants || (forUser && needsRoot(wants.key))) return undefined
  const { key, value } = wants
  const {
    value: now = '',
    origin = 'default',
    ceiling,
  } = ((about.keys ?? {}) as Readonly<Partial<Record<KeyName, KeyEntry>>>)[key] ?? {}
  const isAllowed = keys[key].lowers(keys[key].canonical(now || keys[key].default), value)
  const whole = keys[key].isList && now !== '' ? `${now},${value}` : value
  const assignment = `${key}=${whole}`
  const call = callOf(key)
  const more = key === call ? LISTS[key as CallName] : undefined
  const isAbove = ceiling !== undefined && !keys[key].lowers(ceiling, keys[key].canonical(whole))
  const words = [assignment, ...(more === undefined ? [] : [more])].join(' ')
  const forGood = runtime === RUN ? `intercede run -c ${words.replaceAll(' ', ' -c ')}` : undefined
  const above = `nothing: it is above the ceiling ${JSON.stringify(ceiling)} of the configuration`
  const set = isAbove ? above : `intercede set ${word} ${words}`
  return {
    set: isAllowed ? 'nothing: it is allowed by now' : (closedTo(runtime, forUser) ?? set),
    forGood: forGood ?? lineFor(origin, assignment, key, changedIn(forUser)),
    allows: `${keys[key].help}; docs/security.md#${SAFETY[call]} says why that is safe`,
  }
}
