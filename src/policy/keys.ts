import { MIN_NICE } from '../abi/sched.ts'
import { briefly, didYouMean } from '../shared/texts.ts'
import { attributes } from './attributes.ts'
import { delegatedAttachments, delegatedCommands, delegatedMaps, delegatedPrograms } from './delegations.ts'
import { devices, makeable } from './devices.ts'
import { type Place, PolicyError } from './error.ts'
import { type CallKey, call, expandShort, fullName, type OptionKey, option, PREFIX } from './key.ts'
import { resourceLimits } from './resource-limits.ts'
import { enforcement, fileSystems, fusePrograms, numberWithin, permission, protection } from './value-types.ts'

interface MountLists {
  readonly allowed: ReadonlySet<string>
  readonly fuse: ReadonlyMap<string, string>
}

/**
 * Checks that no file system is in both lists, which would leave unclear who mounts it.
 *
 * @throws {PolicyError} naming the file system
 */
function checkMountLists({ allowed, fuse }: MountLists): void {
  const both = [...fuse.keys()].find((name) => allowed.has(name))
  if (both === undefined) return
  const lists = `${fullName('mount.allowed')} and ${fullName('mount.fuse')}`
  throw new PolicyError(`the file system ${briefly(both)} is in both ${lists}, allowed is one of them`)
}

/**
 * Every key, by the part of its name after PREFIX. Names and values are LXD's, and ours where LXD has no such key. All
 * that is known of a key stands here: docs/internals/add-a-policy-key.md says what follows from it.
 */
export const keys = {
  mknod: call({
    help: 'make the character devices that are harmless in any container',
    allows:
      'the character devices null, zero, full, random, urandom, tty, and console, [which does not open](console.md)',
    capabilities: [['MKNOD']],
    rootless: false,
  }),
  'mknod.devices': option(devices, {
    default: '',
    help: 'more character devices that may be made',
    allows:
      'further character devices, such as `c:10:200,c:10:229`; mmdebstrap requires `c:5:2`; [some cannot be listed](devices.md#what-cannot-be-listed); `granted`: [what the container may open anyway](devices.md#granted)',
    inPolicy: makeable,
  }),
  bpf: call({
    help: 'serve bpf(2) and BPF tokens for the keys bpf.*',
    allows: 'nothing by itself: what the next keys name',
    capabilities: [['SYS_ADMIN'], ['BPF', 'NET_ADMIN']],
    rootless: false,
  }),
  'bpf.devices': option(permission, {
    default: 'false',
    essential: true,
    help: 'load and attach device programs of cgroups',
    allows: "[device programs](bpf.md) of cgroups below the container's, for container runtimes and systemd inside it",
  }),
  'bpf.delegate_cmds': option(delegatedCommands, {
    default: '',
    essential: true,
    capabilities: [['SYS_ADMIN', 'BPF']],
    help: 'commands of bpf(2) for which a token may be made',
    allows:
      'a [bpffs for BPF tokens](bpf-tokens.md): commands that a token permits, of map_create, prog_load, btf_load',
  }),
  'bpf.delegate_maps': option(delegatedMaps, {
    default: '',
    essential: true,
    help: 'types of maps that a token may permit',
    allows: 'types of maps that a token permits, such as `hash,array`',
  }),
  'bpf.delegate_progs': option(delegatedPrograms, {
    default: '',
    essential: true,
    capabilities: [['NET_ADMIN']],
    help: 'types of programs that a token may permit',
    allows:
      'types of programs that a token permits, such as `xdp,sched_cls`; [what this means for the host](bpf-tokens.md#what-it-means-for-the-host)',
  }),
  'bpf.delegate_attachs': option(delegatedAttachments, {
    default: '',
    essential: true,
    help: 'types of attachments that a token may permit',
    allows: 'types of attachments for which such a program may be loaded, such as `xdp,tcx_ingress`',
  }),
  mount: call({
    help: 'serve mount(2) for the file systems of mount.allowed and mount.fuse',
    allows: 'nothing by itself: mount(2) and the new mount API for the next two lists',
    capabilities: [['SYS_ADMIN']],
    rootless: true,
    checkOptions: checkMountLists,
  }),
  'mount.allowed': option(fileSystems, {
    default: '',
    essential: true,
    rootless: false,
    help: 'file systems that the kernel mounts: it parses bytes that the container made',
    allows:
      'file systems from block devices that the container may open, if you accept [the risks](mount.md#security); `tmpfs` is one [on which nodes open](mount.md#tmpfs)',
  }),
  'mount.fuse': option(fusePrograms, {
    default: '',
    essential: true,
    help: 'file systems that a FUSE program in the container mounts: the safe way',
    allows:
      "file systems such as `ext4=fuse2fs`, by FUSE programs of the container's own image: [the safe way](mount-fuse.md)",
  }),
  'mount.shift': option(permission, {
    default: 'false',
    help: 'show the files of such a mount with ids of the container',
    allows: 'such a mount shows files with ids of the container',
  }),
  'mount.nodev': option(protection, {
    default: 'true',
    help: 'device nodes inside such a mount cannot be opened',
    allows: 'no device opens on such a mount, whatever the container does to it; a tmpfs has only nodes of `mknod`',
  }),
  sched_setscheduler: call({
    help: 'set scheduling policies and priorities inside the container',
    allows:
      'scheduling policies except SCHED_DEADLINE and SCHED_EXT, for processes and threads of the container; [what it means for the host](scheduling.md)',
    capabilities: [['SYS_NICE']],
    rootless: false,
  }),
  'sched_setscheduler.max_priority': option(numberWithin(1, 99), {
    default: '49',
    help: 'the highest real-time priority to give',
    allows: 'the highest real-time priority, 1 to 99',
  }),
  'sched_setscheduler.min_nice': option(numberWithin(0, MIN_NICE), {
    default: '0',
    help: 'the lowest nice value to give by setpriority(2)',
    allows:
      'setpriority(2) too, for `nice -n -5` and `Nice=` of systemd: the lowest [nice value](scheduling.md#nice-values), -1 to -20',
  }),
  'sched_setscheduler.ioprio': option(permission, {
    default: 'false',
    help: 'set I/O priorities, also of the real-time class',
    allows: 'ioprio_set(2) too, with [the real-time class](scheduling.md#input-and-output)',
  }),
  rlimits: call({
    help: 'raise hard limits of resources, up to those of rlimits.allowed',
    allows: 'nothing by itself: setrlimit(2) and prlimit64(2) for the next list',
    capabilities: [['SYS_RESOURCE']],
    rootless: false,
  }),
  'rlimits.allowed': option(resourceLimits, {
    default: '',
    essential: true,
    help: 'hard limits of resources, up to which the container may raise its own',
    allows:
      'hard limits of processes of the container up to these, such as `nofile=1048576,memlock=2G`; [what they mean for the host](resource-limits.md)',
  }),
  setxattr: call({
    help: 'set trusted.overlay.opaque on the files of the container',
    allows: '`trusted.overlay.opaque` = `y` on files of the container, for tools that unpack images and build overlays',
    capabilities: [['SYS_ADMIN']],
    rootless: false,
  }),
  'setxattr.allowed': option(attributes, {
    default: '',
    help: 'more attributes security.* and trusted.* that may be set and removed',
    allows:
      'to set and remove more attributes by name, such as `security.NTACL` for Samba and `trusted.glusterfs.*`; [some cannot be listed](attributes.md#what-cannot-be-listed)',
  }),
  'setxattr.read': option(permission, {
    default: 'false',
    help: 'get, list and remove them too; slows every read of an attribute',
    allows: 'to get, list and remove these attributes too; off by default, because it makes `ls -l` slower',
  }),
  sysinfo: call({
    help: 'report the memory and uptime of the container',
    allows:
      'nothing: `sysinfo(2)` reports uptime, tasks and memory limit of the container ([which figure is what](sysinfo.md))',
    capabilities: [],
    rootless: true,
  }),
  mode: option(enforcement, {
    default: 'enforce',
    help: 'observe: record what would be done, and leave every call to the kernel',
    allows: 'with `observe`, no call is done: Intercede only [records what it would do](operating.md#observe-mode)',
  }),
} as const satisfies Record<string, CallKey | OptionKey<unknown>>

export type KeyName = keyof typeof keys
/** The keys `CALL.OPTION`. */
export type OptionName = Extract<KeyName, `${string}.${string}`>
/** The keys that turn a call on: all others but `mode`, which holds for all calls. */
export type CallName = Exclude<KeyName, OptionName | 'mode'>
/** The keys that say what may be done: `mode` says whether it is. */
export type PermittingKey = CallName | OptionName
export type Value<K extends KeyName> = ReturnType<(typeof keys)[K]['parse']>

export const keyNames = Object.keys(keys) as readonly KeyName[]

/**
 * Returns the key of the call that `name` is an option of, or `name` itself if it is the key of a call; undefined for
 * `mode`.
 */
export function callOf(name: PermittingKey): CallName
export function callOf(name: KeyName): CallName | undefined
export function callOf(name: KeyName): CallName | undefined {
  return name === 'mode' ? undefined : (name.split('.', 1)[0] as CallName)
}

export interface OptionEntry {
  readonly name: OptionName
  /** The name of the option in the call's member of the policy. */
  readonly member: string
  readonly key: OptionKey<unknown>
}

export interface CallEntry {
  readonly name: CallName
  /** The name of the call in the policy. */
  readonly member: string
  readonly key: CallKey
  readonly options: readonly OptionEntry[]
}

const memberOf = (name: string): string => name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())

const optionsOf = (call: CallName): readonly OptionEntry[] =>
  keyNames
    .filter((name): name is OptionName => name !== call && callOf(name) === call)
    .map((name) => ({ name, member: memberOf(name.slice(call.length + 1)), key: keys[name] as OptionKey<unknown> }))

/** The table of keys once more, with the options of each call below the call. */
export const calls: readonly CallEntry[] = keyNames
  .filter((name): name is CallName => callOf(name) === name)
  .map((name) => ({ name, member: memberOf(name), key: keys[name], options: optionsOf(name) }))

/**
 * Finds the key of the table that a full or short name means.
 *
 * @throws {PolicyError} if there is none
 */
export function toKeyName(name: string, place?: Place): KeyName {
  const full = expandShort(name)
  const short = full.slice(PREFIX.length)
  if (full.startsWith(PREFIX) && Object.hasOwn(keys, short)) return short as KeyName
  throw new PolicyError(
    `unknown key ${briefly(full)}`,
    place,
    didYouMean(full, keyNames.map(fullName)) || '; "intercede profile --help" lists them',
  )
}
