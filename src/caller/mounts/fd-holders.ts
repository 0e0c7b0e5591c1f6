import { O_PATH } from '../../abi/fcntl.ts'
import type { IsHeld } from '../../calls/context.ts'
import { orFalse, orUndefined } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { isMountRoot, openat } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { kcmpFile } from '../../kernel/kcmp.ts'
import { heldAs } from '../programs/held-fds.ts'

/**
 * Returns a handle of the root directory of a mount that a task's descriptor is open for; undefined if it is open for
 * something else.
 *
 * @param task the task's `/proc/TID`
 */
export function rootOfMount(task: Handle, fd: number): Fd | undefined {
  const handle = orUndefined('any', () => openat(task.raw, Buffer.from(`fd/${fd}\0`), O_PATH))
  if (!handle || orFalse('any', () => isMountRoot(handle))) return handle
  handle[Symbol.dispose]()
  return undefined
}

/**
 * Tells whether a process still has a descriptor of the file `given`. It only compares descriptors (kcmp(2)): opening
 * a mount makes it busy for that moment, and reading `fdinfo` may wait for the file system.
 *
 * Precondition: the calling thread is at home, with the right to search `/proc/PID/fd`.
 */
export const callerHolds: IsHeld = (given, { process, fd }) =>
  fd === undefined ? heldAs(process, given) !== undefined : kcmpFile(process, fd, given)
