import { ACCESS_TIMES } from '../abi/mount.ts'
import type { Caller } from '../calls/caller.ts'
import { continueWith, type Verdict } from '../calls/verdict.ts'
import type { Handle } from '../kernel/handle.ts'
import { isInside } from './mount-types.ts'

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
  const isFree = !changes || caller.mounts.isMade(root) || isInside(root, caller)
  return continueWith(isFree ? 'changesMounts' : 'accessTimesLocked')
}
