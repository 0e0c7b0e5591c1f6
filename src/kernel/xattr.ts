import type { PathBytes } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import { everywhere } from '../abi/syscalls.ts'
import type { Handle } from './fd.ts'
import { changeDirectory } from './files.ts'
import { check, lastErrno, libc } from './libc.ts'

const libcSet = libc.func('int setxattr(uint8_t *path, uint8_t *name, uint8_t *value, size_t size, int flags)')
const libcGet = libc.func('long getxattr(uint8_t *path, uint8_t *name, uint8_t *value, size_t size)')
const libcList = libc.func('long listxattr(uint8_t *path, uint8_t *list, size_t size)')
const libcRemove = libc.func('int removexattr(uint8_t *path, uint8_t *name)')
const syscallSetat = libc.func('syscall', 'long', ['long', 'int', 'long', 'uint32_t', 'long', 'long', 'size_t'])

/**
 * An inode, by a handle that was opened with O_PATH. No call on attributes takes such a descriptor, not even
 * setxattrat(2) with AT_EMPTY_PATH (EBADF), so the call gets the path of its link in `links`, a handle of our own
 * /proc/self/fd. This works in any root directory, and the kernel always lets a process follow its own links.
 *
 * @see linux/fs/proc/base.c proc_fd_access_allowed(), fd.c proc_fd_permission()
 */
export interface Named {
  readonly links: Handle
  readonly inode: Handle
}

/** Returns a path to an inode, and changes the calling thread's working directory, which must be its own, for it. */
function nameOf({ links, inode }: Named): Uint8Array {
  changeDirectory(links)
  return Buffer.from(`${inode.raw}\0`)
}

/**
 * Sets an attribute.
 *
 * @param flags XATTR_CREATE, XATTR_REPLACE
 * @throws {SyscallError} EPERM for `trusted.*` without CAP_SYS_ADMIN in the initial user namespace; EEXIST, ENODATA,
 *   EROFS, ...
 * @see linux/fs/xattr.c vfs_setxattr()
 */
export function setxattr(inode: Named, name: PathBytes, value: Uint8Array, flags: number): void {
  check('setxattr', libcSet(nameOf(inode), name, value, value.length, flags))
}

/**
 * Reads an attribute into `into`, unless that is empty.
 *
 * @returns the length of the value
 * @throws {SyscallError} ENODATA, ERANGE, ...
 */
export function getxattr(inode: Named, name: PathBytes, into: Uint8Array): number {
  return check('getxattr', Number(libcGet(nameOf(inode), name, into, into.length)))
}

/**
 * Reads the names of all attributes into `into`, unless that is empty.
 *
 * @returns the length of all names with their NULs
 * @throws {SyscallError} ERANGE, ...
 */
export function listxattr(inode: Named, into: Uint8Array): number {
  return check('listxattr', Number(libcList(nameOf(inode), into, into.length)))
}

/** Removes an attribute. @throws {SyscallError} ENODATA, EPERM, EROFS, ... */
export function removexattr(inode: Named, name: PathBytes): void {
  check('removexattr', libcRemove(nameOf(inode), name))
}

let known: boolean | undefined

/** Returns whether the kernel has setxattrat(2) and its siblings (6.13), which fail with EINVAL without arguments. */
export function hasXattrat(): boolean {
  known ??= syscallSetat(everywhere.setxattrat, -1, 0, 0, 0, 0, 0) !== -1 || lastErrno() !== errnos.ENOSYS
  return known
}
