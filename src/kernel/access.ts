import { errnos } from '../abi/errno.ts'
import { AT_EACCESS, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, F_OK } from '../abi/fcntl.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import type { Handle } from './handle.ts'
import { check, lastErrno, libc } from './libc.ts'

const { faccessat2 } = ownSyscalls(process.arch)
const EMPTY = new Uint8Array([0])
const syscallFaccessat2 = libc.func('long syscall(long number, int dir, uint8_t *path, int mode, int flags)')

/**
 * Checks whether the calling thread, with its present credentials, may open a file; it opens nothing.
 *
 * @throws {SyscallError} EACCES; EPERM by the device rules of its control group
 * @see faccessat2(2)
 */
export function access(file: Handle, mode: number): void {
  check('faccessat2', syscallFaccessat2(faccessat2, file.raw, EMPTY, mode, AT_EACCESS | AT_EMPTY_PATH))
}

/** Returns whether the calling thread finds no `name` in `dir` (ENOENT); false if it cannot find out. */
export const isAbsent = (dir: Handle, name: Uint8Array): boolean =>
  syscallFaccessat2(faccessat2, dir.raw, name, F_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) !== 0 &&
  lastErrno() === errnos.ENOENT
