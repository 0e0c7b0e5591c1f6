import { capNumber } from '../abi/capability.ts'
import type { Caller } from '../calls/caller.ts'
import { pass, type Verdict } from '../calls/verdict.ts'
import type { Policy } from '../policy/policy.ts'

export type MountPolicy = NonNullable<Policy['mount']>

/** The kernel mounts them for any user namespace (FS_USERNS_MOUNT), where they are the container's own. */
const OPEN_TO_ALL: ReadonlySet<string> = new Set([
  ...['tmpfs', 'ramfs', 'proc', 'sysfs', 'devpts', 'mqueue', 'overlay', 'fuse', 'bpf', 'binfmt_misc'],
  ...['cgroup', 'cgroup2', 'cpuset', 'rpc_pipefs', 'nfsd'],
])
/** Their options name descriptors of the process that mounts, which would be ours. */
const TAKES_DESCRIPTORS: ReadonlySet<string> = new Set(['fuseblk', 'autofs', '9p', 'coda'])

/** Is a file system left to the kernel, whoever asks? */
export function judgeType(type: string, { allowed, fuse }: MountPolicy): Verdict | undefined {
  if (fuse.has(type)) return undefined
  if (OPEN_TO_ALL.has(type) || type.startsWith('fuse.')) return pass('kernelMountsIt')
  if (!allowed.has(type)) return pass('fileSystemNotAllowed')
  // A subtype, as in fuseblk.ntfs, is the same driver; linux/fs/filesystems.c get_fs_type()
  if (TAKES_DESCRIPTORS.has(type.split('.')[0]!)) return pass('takesDescriptors')
  return undefined
}

/** Is a caller left to the kernel, whatever it mounts? */
export function judgeMounter(caller: Caller): Verdict | undefined {
  if (!caller.inInitialUserns) return pass('childUserns')
  if (!caller.holds('SYS_ADMIN')) return pass('lacksCapability', capNumber('SYS_ADMIN'))
  return undefined
}
