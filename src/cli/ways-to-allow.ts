import type { RefusalView } from '../memories/refusal-view.ts'
import { fullName } from '../policy/key.ts'
import { callOf } from '../policy/key-names.ts'
import { type CallName, type KeyName, keys } from '../policy/keys.ts'
import type { ContainerView } from '../reader/container-view.ts'
import { RUN, shortId } from './open-feed.ts'

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

function lineFor(origin: string, assignment: string, key: KeyName): string {
  const yaml = `${fullName(key)}: ${assignment.slice(key.length + 1)}`
  const file = 'in /etc/intercede/config.yaml, then "intercede reload"'
  const [, profile] = /^profile (.*)$/.exec(origin) ?? []
  if (profile !== undefined) return `"${yaml}" under profiles: ${profile}: ${file}`
  if (origin === 'metadata' || origin === 'set')
    return `make its seccomp profile with -c ${assignment}, or "${yaml}" in a profile of the configuration`
  if (origin.startsWith('annotation')) return `change the annotation ${fullName(key)} of the container`
  return `"${yaml}" under default: or in its profile ${file}`
}

/** Returns how a refused call can be allowed; undefined where no key would do it. */
export function waysToAllow({ id, runtime, about }: ContainerView, { wants }: RefusalView): WaysToAllow | undefined {
  if (!wants) return undefined
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
  const set = isAbove ? above : `intercede set ${shortId(id)} ${words}`
  const orNothing = forGood === undefined ? set : 'nothing: the policy of a run is that of its command line'
  return {
    set: isAllowed ? 'nothing: it is allowed by now' : orNothing,
    forGood: forGood ?? lineFor(origin, assignment, key),
    allows: `${keys[key].help}; docs/security.md#${SAFETY[call]} says why that is safe`,
  }
}
