import type { Caller } from '../calls/caller.ts'
import type { Parameter } from '../calls/context.ts'
import { TMPFS } from '../calls/mounts.ts'
import { act, continueWith, type Verdict } from '../calls/verdict.ts'
import type { Handle } from '../kernel/handle.ts'
import { optionNumber } from './memory-options.ts'
import { judgeOptions, optionsOf } from './mount-options.ts'
import { isInside, judgeMounter, type MountPolicy } from './mount-types.ts'

/**
 * Tells whether a parameter is the owner of a tmpfs, which a change of the file system leaves as it is:
 * linux/mm/shmem.c shmem_reconfigure(). mount(8) repeats those that /proc/mounts shows, which are ids of the host, and
 * no ids of the container.
 */
export const saysOwner = ([key, value]: Parameter): boolean =>
  (key === 'uid' || key === 'gid') && value !== undefined && optionNumber(value) !== undefined

const ofOthers = (root: Handle, caller: Caller): Verdict =>
  continueWith(isInside(root, caller) ? 'kernelMountsIt' : 'remountsFileSystem')

/** A file system that stands and is to be changed for a caller: a tmpfs that we made for its container. */
interface Changed {
  /** The root of its mount. */
  readonly root: Handle
  readonly namespace: Handle
}

/**
 * Finds the file system that is to be changed. Who asks is looked at first: after the lookup the thread stands in the
 * caller's root directory.
 *
 * @param lookUp finds the root of its mount
 * @returns a verdict if it is not changed by us
 */
export function toChange(caller: Caller, { allowed }: MountPolicy, lookUp: () => Handle): Changed | Verdict {
  if (!allowed.has(TMPFS)) return ofOthers(lookUp(), caller)
  const judged = judgeMounter(caller)
  const namespace = judged ? undefined : caller.mounts.namespace()
  const root = lookUp()
  if (!caller.mounts.isMade(root)) return ofOthers(root, caller)
  return namespace ? { root, namespace } : judged!
}

export const isVerdict = (found: Changed | Verdict): found is Verdict => 'is' in found

/** Decides mount(2) with MS_REMOUNT. */
export function remountOf({ root: target, namespace }: Changed, flags: bigint, data: string | undefined): Verdict {
  const judged = judgeOptions(TMPFS, data)
  if (judged) return judged
  const options = optionsOf(TMPFS, data).filter((option) => !saysOwner(option))
  const text = options.map((option) => option.join('=')).join(',')
  return act({ verb: 'remount', target, namespace, flags, ...(text && { data: text }) })
}
