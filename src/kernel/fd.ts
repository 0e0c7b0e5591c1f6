import type { Tid } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import {
  CLOSE_RANGE_CLOEXEC,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_SETFD,
  F_SETFL,
  FD_CLOEXEC,
  LOCK_EX,
  LOCK_NB,
  O_CLOEXEC,
  O_NONBLOCK,
} from '../abi/fcntl.ts'
import { KCMP_FILE, KCMP_FILES } from '../abi/process.ts'
import { POLLERR, POLLHUP } from '../abi/socket.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { F_ADD_SEALS } from '../abi/system.ts'
import { orFalse, SyscallError } from './error.ts'
import { check, lastErrno, libc } from './libc.ts'

/** A descriptor. Whoever opened it closes it, by `using`, unless it is passed on by name to a new owner. */
export interface Handle extends Disposable {
  readonly raw: number
}

const libcClose = libc.func('int close(int fd)')
const libcCloseRange = libc.func('int close_range(uint32_t first, uint32_t last, uint32_t flags)')
const libcFlock = libc.func('int flock(int fd, int operation)')
const libcFcntl = libc.func('int fcntl(int fd, int cmd, int arg)')

/** Closes a descriptor number that no `Fd` owns; errors are ignored. */
export function closeRaw(raw: number): void {
  libcClose(raw)
}

/** Closes every descriptor from `first` on, without regard to owners: for a process that ends. */
export function closeFrom(first: number): void {
  libcCloseRange(first, 0xffff_ffff, 0)
}

/** Marks every descriptor from `first` on as close-on-exec. @throws {SyscallError} EINVAL before 5.11 */
export function setCloexecFrom(first: number): void {
  check('close_range', libcCloseRange(first, 0xffff_ffff, CLOSE_RANGE_CLOEXEC))
}

/** Thrown on use of a descriptor that was closed or passed on: a bug of ours, which must not hit another descriptor. */
export class FdClosed extends Error {
  override readonly name = 'FdClosed'
}

/** An owned descriptor. It is closed once: by `using`, by `[Symbol.dispose]()`, or not at all after `release()`. */
export class Fd implements Handle {
  #raw: number

  constructor(raw: number) {
    this.#raw = raw
  }

  /** @throws {FdClosed} */
  get raw(): number {
    if (this.#raw < 0) throw new FdClosed('Cannot use descriptor: it was closed or passed on')
    return this.#raw
  }

  /** Passes the ownership of the number on to the caller. */
  release(): number {
    const raw = this.raw
    this.#raw = -1
    return raw
  }

  [Symbol.dispose](): void {
    if (this.#raw < 0) return
    libcClose(this.#raw)
    this.#raw = -1
  }
}

/** Closes these if `action` fails: a container can make it fail over and over, and would use up our descriptors. */
export function orClose<T>(owned: readonly Disposable[], action: () => T): T {
  try {
    return action()
  } catch (error) {
    for (const each of owned) each[Symbol.dispose]()
    throw error
  }
}

/** The same for one descriptor. */
export const guarded = <T>(fd: Fd, action: () => T): T => orClose([fd], action)

/**
 * Locks the file of a descriptor until that is closed. @returns false if another opener has locked it
 *
 * @see flock(2)
 */
export const lockFile = (fd: Handle): boolean =>
  orFalse(['EAGAIN'], () => check('flock', libcFlock(fd.raw, LOCK_EX | LOCK_NB)) === 0)

/**
 * Duplicates a descriptor.
 *
 * @param least the lowest number it may get
 * @throws {SyscallError} EMFILE; EINVAL if too high
 */
export function dup(fd: Handle, least = 3): Fd {
  return new Fd(check('fcntl', libcFcntl(fd.raw, F_DUPFD_CLOEXEC, least)))
}

/**
 * Checks that this process can have `count` more descriptors now.
 *
 * @param fd any open descriptor
 * @throws {SyscallError} EMFILE, ENFILE if it cannot
 */
export function requireDescriptors(fd: Handle, count: number): void {
  const room: Fd[] = []
  try {
    while (room.length < count) room.push(dup(fd))
  } finally {
    for (const each of room) each[Symbol.dispose]()
  }
}

/** Makes a socket or a pipe non-blocking, for all processes that share its open file description. */
export function setNonblocking(raw: number): void {
  const flags = check('fcntl', libcFcntl(raw, F_GETFL, 0))
  check('fcntl', libcFcntl(raw, F_SETFL, flags | O_NONBLOCK))
}

/** Keeps a descriptor open across execve(2). */
export function passOn(raw: number): void {
  const flags = check('fcntl', libcFcntl(raw, F_GETFD, 0))
  check('fcntl', libcFcntl(raw, F_SETFD, flags & ~FD_CLOEXEC))
}

/** Marks an inherited descriptor as close-on-exec, so that no program started later gets it. */
export function setCloexec(raw: number): void {
  const flags = check('fcntl', libcFcntl(raw, F_GETFD, 0))
  check('fcntl', libcFcntl(raw, F_SETFD, flags | FD_CLOEXEC))
}

/** Seals a memfd for ever, for all processes that have it. @throws {SyscallError} EPERM if it takes no more seals */
export function addSeals(fd: Handle, seals: number): void {
  check('fcntl', libcFcntl(fd.raw, F_ADD_SEALS, seals))
}

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

/** Returns whether no process has the other end of a pipe or socket. @param write the number of its writing end */
export const isAbandoned = (write: number): boolean => (poll(write, 0, 0) & (POLLERR | POLLHUP)) !== 0

const syscallKcmp = libc.func('syscall', 'long', ['long', 'int', 'int', 'int', 'ulong', 'ulong'])
const { kcmp } = ownSyscalls(process.arch)

/**
 * Returns whether descriptor `fd` of task `tid` is the same open file description as ours: opened once, and
 * duplicated or passed on since. The same inode alone is not enough.
 *
 * @returns false also if there is no such task or descriptor
 * @see kcmp(2): needs the right to trace the task
 */
export const kcmpFile = (tid: Tid, fd: number, ours: Handle): boolean =>
  Number(syscallKcmp(kcmp, tid, process.pid, KCMP_FILE, fd, ours.raw)) === 0

/**
 * Returns whether two tasks have one descriptor table.
 *
 * @returns false also if one is gone, or has none any more
 * @see kcmp(2): needs the right to trace both
 */
export const sharesFds = (one: Tid, other: Tid): boolean =>
  Number(syscallKcmp(kcmp, one, other, KCMP_FILES, 0, 0)) === 0
