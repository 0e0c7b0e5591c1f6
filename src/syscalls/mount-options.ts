import { errno } from '../abi/errno.ts'
import type { Parameter } from '../calls/context.ts'
import { TMPFS } from '../calls/mounts.ts'
import { refuse, type Verdict } from '../calls/verdict.ts'

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
