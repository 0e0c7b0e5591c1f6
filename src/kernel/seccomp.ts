import type { Errno } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import {
  SECCOMP_IOCTL_NOTIF_ADDFD,
  SECCOMP_IOCTL_NOTIF_ID_VALID,
  SECCOMP_IOCTL_NOTIF_RECV,
  SECCOMP_IOCTL_NOTIF_SEND,
  SECCOMP_IOCTL_NOTIF_SET_FLAGS,
} from '../abi/seccomp.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { SyscallError } from './error.ts'
import type { Handle } from './handle.ts'
import { check, lastErrno, libc } from './libc.ts'
import { POLLHUP, poll } from './poll.ts'

const libcIoctl = libc.func('int ioctl(int fd, ulong request, uint8_t *argument)')
const libcSyscall = libc.func('long syscall(long number, uint32_t operation, uint32_t flags, uint8_t *argument)')

const SECCOMP_GET_NOTIF_SIZES = 3

/**
 * The sizes of the kernel's structs: `[seccomp_notif, seccomp_notif_resp, seccomp_data]` in bytes.
 *
 * @throws {SyscallError} EINVAL before 5.0, ENOSYS without seccomp
 */
export function notifSizes(): readonly [number, number, number] {
  const sizes = new Uint8Array(6)
  const { seccomp } = ownSyscalls(process.arch)
  check('seccomp', libcSyscall(seccomp, SECCOMP_GET_NOTIF_SIZES, 0, sizes))
  const view = new DataView(sizes.buffer)
  return [view.getUint16(0, true), view.getUint16(2, true), view.getUint16(4, true)]
}

/**
 * Receives the next notification straight into `slot`, which must be zero. Blocks if there is none (O_NONBLOCK does
 * nothing here): so only the leader calls it after epoll said so, and who attends the listener, alone.
 *
 * @returns false if the call went away in between, or nobody is left who could call (ENOENT), or after a signal
 * @throws {SyscallError} EINVAL if the slot was not zero
 */
export function notifRecv(listener: number, slot: Uint8Array): boolean {
  if (libcIoctl(listener, SECCOMP_IOCTL_NOTIF_RECV, slot) === 0) return true
  const errno = lastErrno()
  return errno === errnos.EINTR ? false : goneOrThrow('SECCOMP_IOCTL_NOTIF_RECV', errno)
}

/**
 * @returns false if the call is no longer waiting (ENOENT), or another holder of the listener has answered it just now
 *   (EINPROGRESS): the answer was not delivered
 * @throws {SyscallError} EINVAL for CONTINUE with a value
 */
export function notifSend(listener: number, response: Uint8Array): boolean {
  const result = notify(listener, SECCOMP_IOCTL_NOTIF_SEND, response)
  return result >= 0 || goneOrThrow('SECCOMP_IOCTL_NOTIF_SEND', -result)
}

/** Is the call with this id (8 bytes) still waiting? Then all that was read of its thread belonged to it. */
export function notifIdValid(listener: number, id: Uint8Array): boolean {
  const result = notify(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, id)
  return result >= 0 || goneOrThrow('SECCOMP_IOCTL_NOTIF_ID_VALID', -result)
}

/**
 * Puts a descriptor of ours into the caller's table; with SECCOMP_ADDFD_FLAG_SEND it is the answer too, atomically.
 *
 * @returns the number there, or undefined if the call is no longer waiting
 */
export function notifAddfd(listener: number, addfd: Uint8Array): number | undefined {
  const result = notify(listener, SECCOMP_IOCTL_NOTIF_ADDFD, addfd)
  return result >= 0 || goneOrThrow('SECCOMP_IOCTL_NOTIF_ADDFD', -result) ? result : undefined
}

/** Sets SECCOMP_USER_NOTIF_FD_* on a listener. @returns false before 6.6, where it does not exist */
export function notifSetFlags(listener: number, flags: number): boolean {
  // The argument is the number itself, not a pointer.
  return libcIoctlNumber(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags) === 0
}
const libcIoctlNumber = libc.func('ioctl', 'int', ['int', 'ulong', 'ulong'])

/** How often one is asked again that has no memory, which only ADDFD may lack: it was seen of others where an engine starts. */
const TRIES = 8

/**
 * Of a call that was received. A stop, a freeze or a tracer of ours interrupts the wait for the filter's lock (EINTR): nothing
 * was done then, and a caller would wait for ever for an answer that is not given again.
 *
 * @returns what the kernel returned, as it does: below zero it is an error number
 * @see kernel/seccomp.c mutex_lock_interruptible()
 */
function notify(listener: number, request: number, argument: Uint8Array): number {
  for (let lacks = 0; ; ) {
    const result = libcIoctl(listener, request, argument)
    if (result >= 0) return result
    const errno = lastErrno()
    if (errno === errnos.EINTR) continue
    if (errno !== errnos.ENOMEM || ++lacks === TRIES) return -errno
  }
}

/** @returns false if the call is gone, or answered */
function goneOrThrow(request: string, errno: number): false {
  if (errno === errnos.ENOENT || errno === errnos.EINPROGRESS) return false
  throw new SyscallError(request, errno as Errno)
}

/** Has the last task ended whose calls would come to this listener? */
export const isOver = (listener: Handle): boolean => (poll(listener.raw, 0, 0) & POLLHUP) !== 0

/** Is this descriptor a listener? No call has the id 0, which a listener answers with ENOENT and nothing else does. */
export function isSeccompListener(fd: Handle): boolean {
  return libcIoctl(fd.raw, SECCOMP_IOCTL_NOTIF_ID_VALID, new Uint8Array(8)) < 0 && lastErrno() === errnos.ENOENT
}
