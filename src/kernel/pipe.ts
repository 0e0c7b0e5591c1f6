import { O_CLOEXEC } from '../abi/fcntl.ts'
import { POLLERR } from '../abi/poll.ts'
import { Fd } from './fd.ts'
import { check, libc } from './libc.ts'
import { poll } from './poll.ts'

const libcPipe2 = libc.func('int pipe2(int32_t *fds, int flags)')

/**
 * Makes a real pipe: the 'pipe' of Node's child_process is a pair of sockets, which cannot be opened by `/dev/stdout`.
 *
 * @throws {SyscallError} EMFILE
 * @see pipe2(2)
 */
export function pipe(): { readonly read: Fd; readonly write: Fd } {
  const fds = new Int32Array(2)
  check('pipe2', libcPipe2(fds, O_CLOEXEC))
  return { read: new Fd(fds[0]!), write: new Fd(fds[1]!) }
}

/** Returns whether no process has the reading end of a pipe any more. @param write the number of its writing end */
export const isAbandoned = (write: number): boolean => (poll(write, 0, 0) & POLLERR) !== 0
