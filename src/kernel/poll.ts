import { errnos } from '../abi/errno.ts'
import { SyscallError } from './error.ts'
import { lastErrno, libc } from './libc.ts'

const libcPoll = libc.func('int poll(uint8_t *fds, ulong count, int timeout)')

/** `struct pollfd`: s32 fd | s16 events | s16 revents. */
const pollfd = new Uint8Array(8)
const view = new DataView(pollfd.buffer)

/**
 * Waits for `events` at one descriptor; POLLERR and POLLHUP are always reported.
 *
 * @param timeout milliseconds, which begin again after a signal; -1 for none
 * @returns the events that have occurred; 0 after the time-out
 */
export function poll(fd: number, events: number, timeout: number): number {
  view.setInt32(0, fd, true)
  view.setInt16(4, events, true)
  for (;;) {
    const ready = libcPoll(pollfd, 1, timeout)
    if (ready >= 0) return ready === 0 ? 0 : view.getInt16(6, true)
    const errno = lastErrno()
    if (errno !== errnos.EINTR) throw new SyscallError('poll', errno)
  }
}
