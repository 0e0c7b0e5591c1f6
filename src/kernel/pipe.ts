import { Fd } from './fd.ts'
import { check, libc } from './libc.ts'

const POLLERR = 8

const O_CLOEXEC = 0o2000000
const libcPoll = libc.func('int poll(uint8_t *fds, ulong count, int timeout)')
const libcPipe2 = libc.func('int pipe2(int32_t *fds, int flags)')

/**
 * A real pipe: the 'pipe' of Node's child_process is a pair of sockets, which nobody can open by `/dev/stdout`.
 *
 * @throws {SyscallError} EMFILE
 * @see pipe2(2)
 */
export function pipe(): { readonly read: Fd; readonly write: Fd } {
  const fds = new Int32Array(2)
  check('pipe2', libcPipe2(fds, O_CLOEXEC))
  return { read: new Fd(fds[0]!), write: new Fd(fds[1]!) }
}

const pollfd = new Uint8Array(8)
const pollView = new DataView(pollfd.buffer)

/** Has nobody the other end of a pipe any more? @param write the number of its writing end */
export function isAbandoned(write: number): boolean {
  // `struct pollfd`: s32 fd | s16 events | s16 revents
  pollView.setInt32(0, write, true)
  pollView.setInt16(4, 0, true)
  return libcPoll(pollfd, 1, 0) > 0 && (pollView.getInt16(6, true) & POLLERR) !== 0
}
