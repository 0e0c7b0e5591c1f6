import { errno } from '../abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../abi/fcntl.ts'
import { orFalse, SyscallError } from '../kernel/error.ts'
import { isMountRoot, linkOf, openat, statx } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'

/** What mount(2) says about its target, and move_mount(2) does not; linux/fs/namespace.c do_add_mount(), graft_tree(). */
export function checkTarget(tree: Handle, target: Handle): void {
  if (isRootOfSame(tree, target)) throw new SyscallError('mount', errno('EBUSY'))
  openat(AT_FDCWD, linkOf(target), O_PATH | O_DIRECTORY)[Symbol.dispose]()
}

/** The same file system twice on one mount point. What cannot be looked at is a file system of the container. */
const isRootOfSame = (tree: Handle, target: Handle): boolean =>
  orFalse(['EACCES'], () => isMountRoot(target) && statx(tree.raw).dev === statx(target.raw).dev)
