import { errno } from '../abi/errno.ts'
import type { Parameter } from '../calls/context.ts'
import { refuse, type Verdict } from '../calls/verdict.ts'

/** Options of SELinux and Smack, which take them before the file system sees them. */
const LABELS: ReadonlySet<string> = new Set([
  ...['context', 'fscontext', 'defcontext', 'rootcontext'],
  ...['smackfsdef', 'smackfsdefault', 'smackfsfloor', 'smackfshat', 'smackfsroot', 'smackfstransmute'],
])

/**
 * Options that are about the machine and not about the file system, which the kernel takes from root of the host only. EINVAL,
 * as for an option that it does not know.
 */
export function judgeParameter([key, value]: Parameter): Verdict | undefined {
  // ext4, f2fs, squashfs, vfat and others: errors; btrfs: fatal_errors; ufs: onerror.
  if (value === 'panic') return refuse('endsMachine', errno('EINVAL'))
  if (LABELS.has(key)) return refuse('labelsFiles', errno('EINVAL'))
  return undefined
}

/** The same for the options of mount(2). */
export function judgeOptions(options = ''): Verdict | undefined {
  return optionsOf(options).map(judgeParameter).find(Boolean)
}

export const optionsOf = (options: string): readonly Parameter[] => options.split(',').filter(Boolean).map(parameterOf)

function parameterOf(option: string): Parameter {
  const [key = '', ...value] = option.split('=')
  return value.length === 0 ? [key] : [key, value.join('=')]
}
