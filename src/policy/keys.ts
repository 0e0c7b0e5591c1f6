import { devices } from './devices.ts'
import { type Place, PolicyError } from './error.ts'
import { didYouMean } from './suggest.ts'
import type { ValueType } from './value-type.ts'
import { fileSystems, fusePrograms, numberWithin, permission, protection } from './value-types.ts'

interface Key<T> extends ValueType<T> {
  readonly default: string
  readonly help: string
}

const key = <T>(type: ValueType<T>, initial: string, help: string): Key<T> => ({ ...type, default: initial, help })

/** Every key, by the part of its name after PREFIX. Names and values are LXD's; those that LXD lacks are ours. */
export const keys = {
  mknod: key(permission, 'false', 'make the character devices that are harmless in any container'),
  'mknod.devices': key(devices, '', 'more character devices that may be made'),
  bpf: key(permission, 'false', 'serve bpf(2); needs bpf.devices too'),
  'bpf.devices': key(permission, 'false', 'load and attach programs that rule the devices of a cgroup'),
  mount: key(permission, 'false', 'serve mount(2) for the file systems of mount.allowed and mount.fuse'),
  'mount.allowed': key(fileSystems, '', 'mounted by the kernel: it will parse bytes that the container made'),
  'mount.fuse': key(fusePrograms, '', 'mounted by a FUSE program inside the container: the safe way'),
  'mount.shift': key(permission, 'false', 'show the files of such a mount with the ids of the container'),
  'mount.nodev': key(protection, 'true', 'device nodes inside such a mount cannot be opened'),
  sched_setscheduler: key(permission, 'false', 'set scheduling policies and priorities inside the container'),
  'sched_setscheduler.max_priority': key(numberWithin(1, 99), '49', 'the highest real-time priority that is given'),
  setxattr: key(permission, 'false', 'set trusted.overlay.opaque on the files of the container'),
  'setxattr.read': key(permission, 'false', 'get, list and remove it too; slows every look at an attribute'),
  sysinfo: key(permission, 'false', 'report the memory and uptime of the container'),
} as const satisfies Record<string, Key<unknown>>

export type KeyName = keyof typeof keys
export type Value<K extends KeyName> = ReturnType<(typeof keys)[K]['parse']>

export const PREFIX = 'security.syscalls.intercept.'
export const keyNames = Object.keys(keys) as readonly KeyName[]

/** The name as it is written in files and logs. */
export const fullName = (name: string): string => `${PREFIX}${name}`

/** `mknod` is short for `security.syscalls.intercept.mknod`. Any other name with that beginning stays as it is. */
export const expandShort = (name: string): string => (name.startsWith('security.') ? name : fullName(name))

/**
 * The key of the table that a full or short name means.
 *
 * @throws {PolicyError} if there is none
 */
export function toKeyName(name: string, place?: Place): KeyName {
  const full = expandShort(name)
  const short = full.slice(PREFIX.length)
  if (full.startsWith(PREFIX) && Object.hasOwn(keys, short)) return short as KeyName
  throw new PolicyError(
    `unknown key ${JSON.stringify(full)}`,
    place,
    didYouMean(full, keyNames.map(fullName)) || '; "intercede profile --help" lists them',
  )
}
