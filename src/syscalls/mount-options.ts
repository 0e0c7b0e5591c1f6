import { errno } from '../abi/errno.ts'
import type { Parameter } from '../calls/context.ts'
import { refuse, type Verdict } from '../calls/verdict.ts'

/** Options of SELinux and Smack, which take them before the file system sees them. */
const LABELS: ReadonlySet<string> = new Set([
  ...['context', 'fscontext', 'defcontext', 'rootcontext'],
  ...['smackfsdef', 'smackfsdefault', 'smackfsfloor', 'smackfshat', 'smackfsroot', 'smackfstransmute'],
])

/** Of erofs: its image is not a device then, but lies in the cache of the host (CONFIG_EROFS_FS_ONDEMAND). */
const CACHED: ReadonlySet<string> = new Set(['fsid', 'domain_id'])

/**
 * Options that are about the machine and not about the file system, which the kernel takes from root of the host only. EINVAL,
 * as for an option that it does not know.
 */
export function judgeParameter([key, value]: Parameter): Verdict | undefined {
  // A driver of the old kind reads key and value as one option: linux/fs/fs_context.c legacy_parse_param()
  if (key.includes('=')) return judgeOptions(value === undefined ? key : `${key}=${value}`)
  // ext4, f2fs, squashfs, vfat and others: errors; btrfs: fatal_errors; ufs: onerror.
  if (value === 'panic') return refuse('endsMachine', errno('EINVAL'))
  if (CACHED.has(key)) return refuse('namesHost', errno('EINVAL'))
  // Of hugetlbfs: linux/mm/hugetlb.c hugepage_new_subpool() reserves it at once.
  if (key === 'min_size') return refuse('reservesPages', errno('EINVAL'))
  if (LABELS.has(key)) return refuse('labelsFiles', errno('EINVAL'))
  return undefined
}

/** The same for the options of mount(2). */
export function judgeOptions(options?: string): Verdict | undefined {
  return optionsOf(options).map(judgeParameter).find(Boolean)
}

/**
 * Shall the file system be written to? Of options the last one counts, also against the flag of mount(2), and whatever its
 * value: linux/fs/fs_context.c vfs_parse_sb_flag()
 */
export const isWritable = (parameters: readonly Parameter[], byFlag = true): boolean => {
  const said = parameters.findLast(([key]) => key === 'ro' || key === 'rw')?.[0]
  return said === undefined ? byFlag : said === 'rw'
}

export const optionsOf = (options = ''): readonly Parameter[] => options.split(',').filter(Boolean).map(parameterOf)

function parameterOf(option: string): Parameter {
  const [key = '', ...value] = option.split('=')
  return value.length === 0 ? [key] : [key, value.join('=')]
}
