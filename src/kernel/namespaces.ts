import type { Handle } from './handle.ts'
import { check, libc } from './libc.ts'

const libcUnshare = libc.func('int unshare(int flags)')
const libcSetns = libc.func('int setns(int fd, int type)')

/**
 * Gives the calling thread its own copies, by `flags`. CLONE_FS: root, working directory and umask; CLONE_NEWNS: the
 * mount namespace (which implies CLONE_FS). Children that this thread starts inherit them.
 *
 * @throws {SyscallError} EPERM
 * @see unshare(2)
 */
export function unshare(flags: number): void {
  check('unshare', libcUnshare(flags))
}

/**
 * Moves the calling thread into a namespace.
 *
 * @param type the CLONE_NEW* flag that the descriptor must match, or 0 for any
 * @see setns(2)
 */
export function setns(namespace: Handle, type: number): void {
  check('setns', libcSetns(namespace.raw, type))
}
