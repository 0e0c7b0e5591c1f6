import { O_PATH } from '../../abi/fcntl.ts'
import type { IsHeld } from '../../calls/context.ts'
import { orUndefined } from '../../kernel/error.ts'
import { isMountRoot, mountId, openat } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { kcmpFile } from '../../kernel/kcmp.ts'
import { heldAs } from '../programs/held-fds.ts'

/**
 * Returns the id of the mount whose root directory a task's descriptor is open for; undefined if it is none.
 *
 * @param task the task's `/proc/TID`
 */
export const mountOfFd = (task: Handle, fd: number): bigint | undefined =>
  orUndefined('any', () => {
    using handle = openat(task.raw, Buffer.from(`fd/${fd}\0`), O_PATH)
    return isMountRoot(handle) ? mountId(handle) : undefined
  })

/**
 * Tells whether a process still has a descriptor of the file `given`. It only compares descriptors (kcmp(2)): opening
 * a mount makes it busy for that moment, and reading `fdinfo` may wait for the file system.
 *
 * Precondition: the calling thread is at home, with the right to search `/proc/PID/fd`.
 */
export const callerHolds: IsHeld = (given, { process, fd }) =>
  fd === undefined ? heldAs(process, given) !== undefined : kcmpFile(process, fd, given)
