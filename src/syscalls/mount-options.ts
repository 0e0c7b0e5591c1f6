import { errno } from '../abi/errno.ts'
import { ACCESS_TIMES } from '../abi/mount.ts'
import type { Caller } from '../calls/caller.ts'
import type { Parameter } from '../calls/context.ts'
import { TMPFS } from '../calls/mounts.ts'
import { continueWith, refuse, type Verdict } from '../calls/verdict.ts'
import type { Handle } from '../kernel/fd.ts'

/** Options of SELinux and Smack, which take them before the file system sees them. */
const LABELS: ReadonlySet<string> = new Set([
  ...['context', 'fscontext', 'defcontext', 'rootcontext'],
  ...['smackfsdef', 'smackfsdefault', 'smackfsfloor', 'smackfshat', 'smackfsroot', 'smackfstransmute'],
])

/** Options of erofs with which its image is not a device but lies in the host's cache (CONFIG_EROFS_FS_ONDEMAND). */
const CACHED: ReadonlySet<string> = new Set(['fsid', 'domain_id'])

/**
 * Options of a tmpfs that the kernel takes in any user namespace. Of others, which it takes from root of the host only,
 * `noswap` pins memory of the host, and quotas count for ids of the host: linux/mm/shmem.c shmem_parse_one()
 */
const OF_TMPFS: ReadonlySet<string> = new Set([
  ...['source', 'size', 'nr_blocks', 'nr_inodes', 'mode', 'uid', 'gid', 'huge', 'mpol', 'inode32', 'inode64'],
])

/** Options of any file system, of which the kernel looks at the name only: linux/fs/fs_context.c vfs_parse_sb_flag() */
const GENERAL: ReadonlySet<string> = new Set([
  ...['ro', 'rw', 'sync', 'async', 'dirsync', 'lazytime', 'nolazytime', 'mand', 'nomand'],
])
export const isGeneralFlag = ([key]: Parameter): boolean => GENERAL.has(key)

/**
 * Refuses options that concern the machine instead of the file system, which the kernel accepts from the host's root
 * only. The errno is EINVAL, as for an unknown option.
 */
export function judgeParameter(type: string, parameter: Parameter): Verdict | undefined {
  const [key, value] = parameter
  // A driver with the old mount API reads key and value as one option: linux/fs/fs_context.c legacy_parse_param()
  if (key.includes('=')) return judgeOptions(type, value === undefined ? key : `${key}=${value}`)
  if (type === TMPFS && !OF_TMPFS.has(key) && !isGeneralFlag(parameter)) return refuse('notForAll', errno('EINVAL'))
  // The option is `errors` for ext4, f2fs, squashfs, vfat and others, `fatal_errors` for btrfs, `onerror` for ufs.
  if (value === 'panic') return refuse('endsMachine', errno('EINVAL'))
  if (CACHED.has(key)) return refuse('namesHost', errno('EINVAL'))
  // hugetlbfs reserves the pages at once: linux/mm/hugetlb.c hugepage_new_subpool()
  if (key === 'min_size') return refuse('reservesPages', errno('EINVAL'))
  if (LABELS.has(key)) return refuse('labelsFiles', errno('EINVAL'))
  return undefined
}

/** Refuses options of mount(2) likewise. */
export function judgeOptions(type: string, options?: string): Verdict | undefined {
  return optionsOf(type, options)
    .map((parameter) => judgeParameter(type, parameter))
    .find(Boolean)
}

/**
 * Tells whether the file system shall be writable. The last of the options `ro` and `rw` counts, also against the
 * flag of mount(2), and whatever its value: linux/fs/fs_context.c vfs_parse_sb_flag()
 */
export const isWritable = (parameters: readonly Parameter[], byFlag = true): boolean => {
  const said = parameters.findLast(([key]) => key === 'ro' || key === 'rw')?.[0]
  return said === undefined ? byFlag : said === 'rw'
}

/**
 * Takes options apart. A tmpfs takes a comma before a digit for a part of the value, as in `mpol=bind:0,2`:
 * linux/mm/shmem.c shmem_next_opt()
 */
export const optionsOf = (type: string, options = ''): readonly Parameter[] =>
  options
    .split(type === TMPFS ? /,(?!\d)/ : ',')
    .filter(Boolean)
    .map(parameterOf)

function parameterOf(option: string): Parameter {
  const [key = '', ...value] = option.split('=')
  return value.length === 0 ? [key] : [key, value.join('=')]
}

/** What is changed of the policy of access times: MOUNT_ATTR_*. */
interface Times {
  readonly set: bigint
  readonly clear: bigint
}

export const keepsOtherTimes = (now: bigint, wanted: bigint): boolean => ((now ^ wanted) & ACCESS_TIMES) !== 0n

/**
 * Says of a change of a mount that stands, which the kernel judges, why it fails. What came from a mount namespace with
 * more privileges, and what we locked, keeps its policy of access times; a tmpfs that we made is not locked:
 * linux/fs/namespace.c can_change_locked_flags()
 */
export function timesOf(caller: Caller, root: Handle, { set, clear }: Times): Verdict {
  const now = caller.mounts.attributes({ handle: root })
  const changes = keepsOtherTimes(now, (now & ~clear) | set)
  const isFree = !changes || caller.mounts.isMade(root) || caller.mountedInside(root)
  return continueWith(isFree ? 'changesMounts' : 'accessTimesLocked')
}

/** The invalid id -1, which the kernel refuses (EINVAL) as it would an id that the container does not map. */
const INVALID = '4294967295'
const MAXIMUM = 0xffff_ffff
const IDS = ['uid', 'gid'] as const

/**
 * Translates the `uid` and `gid` options of file systems in memory, which are ids of the mounting process's user
 * namespace: here the host's. The container's ids are translated, and the container's root is the default. Of several
 * the last counts, if the kernel takes all of them. They come first and once, for mount(2) cuts off what is longer than
 * a page.
 */
export function withHostIds(caller: Pick<Caller, 'hostId'>, parameters: readonly Parameter[]): readonly Parameter[] {
  const ids = IDS.map((kind): Parameter => {
    const given = parameters.flatMap(([key, value]) => (key === kind && value !== undefined ? [value] : []))
    const translated = (given.length === 0 ? ['0'] : given).map((text) => hostId(caller, kind, text))
    return [kind, translated.find((id) => id === INVALID) ?? translated.at(-1)!]
  })
  return [...ids, ...parameters.filter(([key, value]) => value === undefined || !isId(key))]
}

/** Translates the options of mount(2) likewise. */
export const optionsWithHostIds = (caller: Pick<Caller, 'hostId'>, type: string, options = ''): string =>
  withHostIds(caller, optionsOf(type, options))
    .map((parameter) => parameter.join('='))
    .join(',')

const isId = (key: string): key is (typeof IDS)[number] => key === 'uid' || key === 'gid'

/**
 * Reads a number of an option as the kernel does: with one `+` or none, decimal, octal after 0, hexadecimal after 0x,
 * with one line feed or none at the end, and nothing else.
 *
 * @returns undefined if the kernel refuses it
 * @see linux/lib/kstrtox.c kstrtoull(), _parse_integer_fixup_radix()
 */
export function kernelNumber(text: string): bigint | undefined {
  const [, hexadecimal, octal, decimal] = /^\+?(?:(0x[\da-f]+)|0([0-7]*)|([1-9]\d*))\n?$/i.exec(text) ?? []
  if (octal !== undefined) return BigInt(`0o0${octal}`)
  const digits = hexadecimal ?? decimal
  return digits === undefined ? undefined : BigInt(digits)
}

/** Returns such a number; undefined if it has more than 32 bits. */
export function optionNumber(text: string): number | undefined {
  const number = kernelNumber(text)
  return number === undefined || number > MAXIMUM ? undefined : Number(number)
}

function hostId(caller: Pick<Caller, 'hostId'>, kind: 'uid' | 'gid', text: string): string {
  const id = optionNumber(text)
  const known = id === undefined ? undefined : caller.hostId(kind, id)
  return known === undefined ? INVALID : String(known)
}
