import { capNumber } from '../abi/credentials.ts'
import { errno } from '../abi/errno.ts'
import type { Caller } from '../calls/caller.ts'
import type { MountManner } from '../calls/context.ts'
import { IN_MEMORY, TMPFS } from '../calls/mounts.ts'
import { packName } from '../calls/packed.ts'
import { continueWith, refuseKept, type Verdict } from '../calls/verdict.ts'
import { OPEN_TO_ALL } from '../policy/host-file-systems.ts'
import type { Policy } from '../policy/policy.ts'

export type MountPolicy = NonNullable<Policy['mount']>

/** File systems whose options name descriptors of the mounting process, which would be ours. */
const TAKES_DESCRIPTORS: ReadonlySet<string> = new Set(['fuseblk', 'autofs', '9p', 'coda'])

/** Returns a verdict for a type that is left to the kernel whoever the caller is. */
export function judgeType(type: string, policy: MountPolicy): Verdict | undefined {
  const { allowed, fuse } = policy
  if (fuse.has(type)) return undefined
  if (type === TMPFS && allowed.has(type)) return undefined
  if (OPEN_TO_ALL.has(type) || type.startsWith('fuse.')) return continueWith('kernelMountsIt')
  if (!allowed.has(type))
    return continueWith(isMiswritten(type) ? 'fileSystemMiswritten' : 'fileSystemNotAllowed', ...packName(type))
  // A subtype, as in fuseblk.ntfs, has the same driver: linux/fs/filesystems.c get_fs_type()
  if (TAKES_DESCRIPTORS.has(type.split('.')[0]!)) return continueWith('takesDescriptors', ...packName(type))
  return undefined
}

/**
 * Judges what a container got when its policy was another one: a context or a mount that is not attached yet. The
 * kernel would attach such a mount, so this is not left to it.
 *
 * @param manner how a mount was made
 */
export function judgeKept(
  { type, manner }: { readonly type: string; readonly manner?: MountManner },
  policy: MountPolicy | undefined,
): Verdict | undefined {
  if (!policy) return refuseKept('keyOff', errno('EPERM'))
  if (!policy.allowed.has(type) || policy.fuse.has(type))
    return refuseKept('fileSystemNotAllowed', errno('EPERM'), ...packName(type))
  const now = mannerOf(type, policy)
  const givesMore = manner !== undefined && ((now.nodev && !manner.nodev) || (manner.shift && !now.shift))
  return givesMore ? refuseKept('madeBefore', errno('EPERM')) : undefined
}

/** A tmpfs needs no lock: nobody but us can make a device node there. */
export const mannerOf = (type: string, { nodev, shift }: MountPolicy): MountManner => ({
  nodev: nodev && type !== TMPFS,
  shift: shift && !IN_MEMORY.has(type),
})

/** Tells whether a type is misspelled, as EXT4: no file system of Linux has a capital letter in its name. */
const isMiswritten = (type: string): boolean => /[A-Z]/.test(type)

/**
 * Returns a verdict for a caller that is left to the kernel whatever it mounts.
 *
 * @param type of a new file system
 */
export function judgeMounter(caller: Caller, type?: string): Verdict | undefined {
  if (!caller.inInitialUserns) return continueWith(type === TMPFS ? 'kernelMountsIt' : 'childUserns')
  if (!caller.holds('SYS_ADMIN')) return continueWith('lacksCapability', capNumber('SYS_ADMIN'))
  return undefined
}
