import { errno, errnos } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import type { Source, SourceKind } from '../calls/mounts.ts'
import { access, R_OK, W_OK } from '../kernel/access.ts'
import { SyscallError } from '../kernel/error.ts'
import { O_NONBLOCK, O_RDONLY, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'

/**
 * The source as it is for the caller, in whose control groups the calling process must be: a device must open there, by the
 * very node that the caller named. Two things are seen in no other way:
 *
 * - Whether the device rules allow it: to mount what is mounted already, the kernel looks at the number alone.
 * - Whether the node is worth anything: on a file system that was mounted inside of a container (FUSE, an overlay) a node of
 *   any number can be made, and to open it is EACCES, but nothing else shows that (SB_I_NODEV).
 *
 * @see linux/fs/super.c get_tree_bdev_flags(), linux/fs/namei.c may_open_dev(), inode_permission()
 */
export function opened({ node, ...source }: Source): Source {
  if (!('dev' in source.kind)) return source
  return { ...source, kind: node ? kindOf(source.kind, node) : { errno: errno('EACCES') } }
}

function kindOf(kind: Extract<SourceKind, { readonly writable: boolean }>, node: Handle): SourceKind {
  try {
    // Opened for reading only: who watches a device is told when somebody who could write closes it.
    access(node, R_OK | (kind.writable ? W_OK : 0))
    openat(AT_FDCWD, cstring(`/proc/self/fd/${node.raw}`), O_RDONLY | O_NONBLOCK)[Symbol.dispose]()
    return kind
  } catch (error) {
    if (error instanceof SyscallError) return { errno: error.errno }
    throw error
  }
}

/** In our root a source that the caller cannot use is missing; what it would have been told is known. */
export function orOwn({ kind }: Source, action: () => void): void {
  try {
    action()
  } catch (error) {
    const missing = error instanceof SyscallError && error.errno === errnos.ENOENT
    if (!missing || !('errno' in kind)) throw error
    throw new SyscallError('mount', kind.errno)
  }
}
