import { errno } from '../abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../abi/fcntl.ts'
import { orFalse, SyscallError } from '../kernel/error.ts'
import { isMountRoot, linkOf, openat, statx } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'

/**
 * Makes the checks of a target that mount(2) makes and move_mount(2) does not.
 *
 * @throws {SyscallError} EBUSY, ENOTDIR
 * @see linux/fs/namespace.c do_add_mount(), graft_tree()
 */
export function checkTarget(tree: Handle, target: Handle): void {
  if (isRootOfSame(tree, target)) throw new SyscallError('mount', errno('EBUSY'))
  openat(AT_FDCWD, linkOf(target), O_PATH | O_DIRECTORY)[Symbol.dispose]()
}

/**
 * Tells whether the target is the root of the same file system. statx(2) is refused (EACCES) only by a file system of
 * the container, which is another one.
 */
const isRootOfSame = (tree: Handle, target: Handle): boolean =>
  orFalse(['EACCES'], () => isMountRoot(target) && statx(tree.raw).dev === statx(target.raw).dev)
