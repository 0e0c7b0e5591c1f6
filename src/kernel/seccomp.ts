import type { Errno } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import {
  SECCOMP_GET_NOTIF_SIZES,
  SECCOMP_IOCTL_NOTIF_ADDFD,
  SECCOMP_IOCTL_NOTIF_ID_VALID,
  SECCOMP_IOCTL_NOTIF_RECV,
  SECCOMP_IOCTL_NOTIF_SEND,
  SECCOMP_IOCTL_NOTIF_SET_FLAGS,
} from '../abi/seccomp.ts'
import { POLLHUP } from '../abi/socket.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { SyscallError } from './error.ts'
import { type Handle, poll } from './fd.ts'
import { check, lastErrno, libc } from './libc.ts'

const libcIoctl = libc.func('int ioctl(int fd, ulong request, uint8_t *argument)')
const libcSyscall = libc.func('long syscall(long number, uint32_t operation, uint32_t flags, uint8_t *argument)')

/**
 * Returns the sizes of the kernel's structs: `[seccomp_notif, seccomp_notif_resp, seccomp_data]` in bytes.
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
 * Receives the next notification straight into `slot`, which must be zeroed. Blocks if there is none, since the kernel
 * ignores O_NONBLOCK here.
 *
 * Precondition: no other thread receives from this listener: the leader calls this after an event of epoll, or the
 * dedicated receiver.
 *
 * @returns false if the call went away in between, if no task is left that could call (ENOENT), or after a signal
 * @throws {SyscallError} EINVAL if the slot was not zero
 */
export function notifRecv(listener: number, slot: Uint8Array): boolean {
  if (libcIoctl(listener, SECCOMP_IOCTL_NOTIF_RECV, slot) === 0) return true
  const errno = lastErrno()
  return errno === errnos.EINTR ? false : goneOrThrow('SECCOMP_IOCTL_NOTIF_RECV', errno)
}

/**
 * Sends an answer.
 *
 * @returns false if the answer was not delivered: the call no longer waits (ENOENT), or another holder of the listener
 *   has just answered it (EINPROGRESS)
 * @throws {SyscallError} EINVAL for CONTINUE with a value
 */
export function notifSend(listener: number, response: Uint8Array): boolean {
  const result = notify(listener, SECCOMP_IOCTL_NOTIF_SEND, response)
  return result >= 0 || goneOrThrow('SECCOMP_IOCTL_NOTIF_SEND', -result)
}

/** Returns whether the call with this id (8 bytes) still waits: then all that was read of its thread belonged to it. */
export function notifIdValid(listener: number, id: Uint8Array): boolean {
  const result = notify(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, id)
  return result >= 0 || goneOrThrow('SECCOMP_IOCTL_NOTIF_ID_VALID', -result)
}

/**
 * Installs our descriptor in the caller's table; with SECCOMP_ADDFD_FLAG_SEND this also answers the call, atomically.
 *
 * @returns the number there; undefined if the call no longer waits
 */
export function notifAddfd(listener: number, addfd: Uint8Array): number | undefined {
  const result = notify(listener, SECCOMP_IOCTL_NOTIF_ADDFD, addfd)
  return result >= 0 || goneOrThrow('SECCOMP_IOCTL_NOTIF_ADDFD', -result) ? result : undefined
}

/** Sets SECCOMP_USER_NOTIF_FD_* on a listener. @returns false before 6.6, which does not have the ioctl */
export function notifSetFlags(listener: number, flags: number): boolean {
  // The argument is the number itself, not a pointer.
  return libcIoctlNumber(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags) === 0
}
const libcIoctlNumber = libc.func('ioctl', 'int', ['int', 'ulong', 'ulong'])

/**
 * How often an ioctl is tried that fails with ENOMEM. Only ADDFD should; others were seen to while an engine starts.
 */
const TRIES = 8

/**
 * Makes an ioctl about a call that was received. A stop, a freeze or a tracer of this process interrupts the wait for
 * the filter's lock (EINTR). Nothing was done then, so the ioctl is made again: else the caller would wait for ever.
 *
 * @returns the result, or a negative error number
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

/** Returns false if the errno means that the call is gone or answered; throws for any other errno. */
function goneOrThrow(request: string, errno: number): false {
  if (errno === errnos.ENOENT || errno === errnos.EINPROGRESS) return false
  throw new SyscallError(request, errno as Errno)
}

/** Returns whether the last task has ended whose calls would come to this listener. */
export const isOver = (listener: Handle): boolean => (poll(listener.raw, 0, 0) & POLLHUP) !== 0

/** Returns whether a descriptor is a listener: no call has the id 0, and only a listener answers it with ENOENT. */
export function isSeccompListener(fd: Handle): boolean {
  return notify(fd.raw, SECCOMP_IOCTL_NOTIF_ID_VALID, new Uint8Array(8)) === -errnos.ENOENT
}
