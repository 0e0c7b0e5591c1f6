import { readFileSync } from 'node:fs'
import type { Tid } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import { NS_GET_PARENT, NS_GET_PID_FROM_PIDNS, NS_GET_PID_IN_PIDNS, NS_GET_USERNS } from '../abi/process.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { SyscallError } from './error.ts'
import { Fd, type Handle } from './fd.ts'
import { check, lastErrno, libc } from './libc.ts'

const syscall3 = libc.func('syscall', 'long', ['long', 'long', 'long', 'uint32_t'])
const syscall4 = libc.func('syscall', 'long', ['long', 'long', 'long', 'long', 'uint32_t'])
const libcIoctl = libc.func('ioctl', 'int', ['int', 'ulong', 'ulong'])
const { pidfd_getfd, pidfd_open, pidfd_send_signal, process_mrelease } = ownSyscalls(process.arch)

/**
 * Opens a handle of a process; it never refers to a later process of the same number.
 *
 * @throws {SyscallError} ESRCH; EINVAL for a thread without PIDFD_THREAD
 */
export function pidfdOpen(pid: number, flags = 0): Fd {
  return new Fd(check('pidfd_open', Number(syscall3(pidfd_open, pid, flags, 0))))
}

/** Returns a copy of a task's descriptor. @throws {SyscallError} EBADF; EPERM without the right to trace the task */
export const pidfdGetfd = (pidfd: Handle, fd: number): Fd =>
  new Fd(check('pidfd_getfd', Number(syscall3(pidfd_getfd, pidfd.raw, fd, 0))))

/** Returns the number, in our pid namespace, of the process of a pidfd; -1 once it is reaped. */
export const numberOf = (pidfd: Handle): number =>
  Number(/^Pid:\s*(-?\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd.raw}`, 'latin1'))?.[1] ?? -1)

/**
 * Returns whether the task still has its number. A dead task keeps it until it is reaped; only then another task can
 * get it. Any errno of signal 0 other than ESRCH means that the task is there.
 */
export function pidfdIsAlive(pidfd: Handle): boolean {
  return Number(syscall4(pidfd_send_signal, pidfd.raw, 0, 0, 0)) === 0 || lastErrno() !== errnos.ESRCH
}

/** Sends a signal to the process of a pidfd; a process that is gone is no error. */
export const signalTo = (pidfd: Handle, signal: number): void =>
  void syscall4(pidfd_send_signal, pidfd.raw, signal, 0, 0)

/**
 * Releases the memory of a process that was killed, but hangs in the kernel.
 *
 * @returns false if the process keeps it: before Linux 5.15, or it shares memory with a process that goes on
 */
export const releaseMemory = (pidfd: Handle): boolean => Number(syscall3(process_mrelease, pidfd.raw, 0, 0)) === 0

/**
 * Returns the number, in our pid namespace, of the task that has the number `pid` in `namespace`.
 *
 * @throws {SyscallError} ESRCH; ENOTTY before 6.11
 */
export function tidFromNamespace(namespace: Handle, pid: number): Tid {
  return check('NS_GET_PID_FROM_PIDNS', libcIoctl(namespace.raw, NS_GET_PID_FROM_PIDNS, pid)) as Tid
}

/** Returns the number, in `namespace`, of the task `tid` of ours; undefined if it has none there, and before 6.11. */
export function numberInNamespace(namespace: Handle, tid: number): number | undefined {
  const number = libcIoctl(namespace.raw, NS_GET_PID_IN_PIDNS, tid)
  return number > 0 ? number : undefined
}

/** Opens the user namespace that owns `namespace`. @throws {SyscallError} EPERM if it is above ours */
export function ownerOf(namespace: Handle): Fd {
  return new Fd(check('NS_GET_USERNS', libcIoctl(namespace.raw, NS_GET_USERNS, 0)))
}

/** Opens the parent of a user or pid namespace; undefined if the parent is above ours. */
export function parentNamespace(namespace: Handle): Fd | undefined {
  const raw = libcIoctl(namespace.raw, NS_GET_PARENT, 0)
  if (raw >= 0) return new Fd(raw)
  const errno = lastErrno()
  if (errno === errnos.EPERM) return undefined
  throw new SyscallError('NS_GET_PARENT', errno)
}
