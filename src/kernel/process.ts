import { readFileSync } from 'node:fs'
import type { Tid } from '../abi/brand.ts'
import { AT_FDCWD, O_RDONLY } from '../abi/fcntl.ts'
import {
  PER_LINUX,
  PR_GET_NO_NEW_PRIVS,
  PR_SET_NO_NEW_PRIVS,
  PR_SET_PDEATHSIG,
  PR_SET_SECUREBITS,
  SIG_BLOCK,
  SIG_UNBLOCK,
  SIGACTION_SIZE,
  SIGSET_SIZE,
  SIGURG,
  WNOHANG,
} from '../abi/process.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { now } from './clock.ts'
import { isErrno, orElse, orUndefined } from './error.ts'
import type { Handle } from './fd.ts'
import { namespaceInode, openat, read } from './files.ts'
import { check, cstring, libc } from './libc.ts'
import { STAT, STATUS_SIZE, statNumber, statState, statusField, statusNumbers } from './procfs/status.ts'

const libcPrctl = libc.func('int prctl(int option, ulong a, ulong b, ulong c, ulong d)')
const libcSyscall = libc.func('long syscall(long number, long argument)')
const { exit_group, gettid } = ownSyscalls(process.arch)

/**
 * Ends the process at once, without exit handlers. `process.exit`, `worker.terminate` and an uncaught exception hang
 * while another thread is in a foreign call; this does not.
 */
export function exitGroup(status: number): never {
  libcSyscall(exit_group, status)
  throw new Error('unreachable')
}

const libcWaitpid = libc.func('int waitpid(int pid, int32_t *status, int options)')

/**
 * Returns the children of one of our threads; none if the kernel does not list them (CONFIG_PROC_CHILDREN).
 *
 * @param thread without it the main thread
 */
export const children = (thread: number = process.pid): readonly number[] =>
  orElse([], () => {
    const list = readFileSync(`/proc/self/task/${thread}/children`, 'latin1')
    return list.split(' ').filter(Boolean).map(Number)
  })

/** How a process ended: with a status, or by a signal. */
export type Ending = { readonly status: number } | { readonly signal: number }

/** Reaps a child, which must not be one of Node's, if it has ended. @returns undefined while it has not */
export function reap(child: number): Ending | undefined {
  const word = new Int32Array(1)
  const reaped = libcWaitpid(child, word, WNOHANG)
  if (reaped === 0) return undefined
  const signal = word[0]! & 0x7f
  return signal === 0 ? { status: (word[0]! >> 8) & 0xff } : { signal }
}

/** Returns the id of the calling thread. */
export const currentTid = (): Tid => libcSyscall(gettid, 0) as Tid

/** Makes the kernel send this process a signal when the thread that started it ends. */
export function signalAtParentsDeath(signal: number): void {
  check('prctl', libcPrctl(PR_SET_PDEATHSIG, signal, 0, 0, 0))
}

const libcPersonality = libc.func('int personality(ulong persona)')

/** Gives the calling thread, and what it starts, the usual personality: addresses are randomized, for instance. */
export function setPlainPersonality(): void {
  check('personality', libcPersonality(PER_LINUX))
}

/** Sets the securebits of the calling thread. @throws {SyscallError} EPERM without CAP_SETPCAP */
export function setSecurebits(bits: number): void {
  check('prctl', libcPrctl(PR_SET_SECUREBITS, bits, 0, 0, 0))
}

/** Forbids the calling thread and its children, for good, to gain privileges by execve(2). */
export function setNoNewPrivileges(): void {
  check('prctl', libcPrctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

/** Returns whether the calling thread has no_new_privs. */
export const hasNoNewPrivileges = (): boolean => libcPrctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) === 1

/** Holds `/proc/TID/stat`: the fields that we need are in its first half. */
const stat = Buffer.alloc(1024)

/** Reads into `stat`. @returns the number of bytes @throws {SyscallError} ENOENT, ESRCH if the task is gone */
function readStat(directory: number, path: Uint8Array): number {
  using file = openat(directory, path, O_RDONLY)
  return read(file, stat)
}

/**
 * Returns the state of a task as one letter: R running, S sleeping, D in uninterruptible sleep.
 *
 * @param directory a descriptor, or AT_FDCWD
 * @param path of the task's `stat`
 * @returns '' if the task is gone
 */
export const stateIn = (directory: number, path: Uint8Array): string =>
  orElse('', () => statState(stat, readStat(directory, path)))

/** Returns the parent process of a task. @throws {SyscallError} ENOENT, ESRCH if the task is gone */
export const parentIn = (directory: number, path: Uint8Array): number =>
  statNumber(stat, readStat(directory, path), STAT.ppid)

/** The process group of a process, its terminal, and the group in the foreground there; 0 if it has none. */
interface ProcessGroups {
  readonly own: number
  /** The terminal's device number. */
  readonly terminal: number
  /** It is 0 also if the group is outside of our pid namespace. */
  readonly foreground: number
}

/** Returns the process groups of a process; zeros if it is gone. */
export const processGroups = (pid: number | 'self'): ProcessGroups =>
  orElse({ own: 0, terminal: 0, foreground: 0 }, () => {
    const length = readStat(AT_FDCWD, cstring(`/proc/${pid}/stat`))
    const number = (field: number): number => statNumber(stat, length, field)
    // Without a terminal the last field is -1, of which no digit is read.
    return { own: number(STAT.group), terminal: number(STAT.terminal), foreground: number(STAT.foreground) }
  })

/** Returns whether a process is stopped (job control). */
export const isStopped = (pid: number): boolean => stateIn(AT_FDCWD, cstring(`/proc/${pid}/stat`)) === 'T'

/** Returns when a task was started, in ticks since boot. @throws {SyscallError} ENOENT, ESRCH if the task is gone */
export const startIn = (directory: number, path: Uint8Array): number =>
  statNumber(stat, readStat(directory, path), STAT.startTime)

/** Returns when a process was started, in ticks since boot; undefined if there is no process of this number. */
export const startTime = (pid: number | 'self'): number | undefined =>
  orElse(undefined, () => startIn(AT_FDCWD, cstring(`/proc/${pid}/stat`)))

/** Returns whether a thread of ours runs or waits for a processor; false if it waits for anything else, or is gone. */
export const isRunning = (thread: Tid): boolean => stateIn(AT_FDCWD, cstring(`/proc/self/task/${thread}/stat`)) === 'R'

const status = Buffer.alloc(STATUS_SIZE)

/** The numbers of a thread and its process in one pid namespace. */
export type Numbers = readonly [tid: number, tgid: number]

/**
 * Returns the numbers of a task in all its pid namespaces: the first in the namespace of the procfs, the last in its
 * own.
 *
 * @param directory a descriptor
 * @param path of the task's `status`
 * @returns an empty list if the task has too many groups
 * @throws {SyscallError} ENOENT, ESRCH if the task is gone
 */
export function numbersIn(directory: number, path: Uint8Array): readonly Numbers[] {
  using file = openat(directory, path, O_RDONLY)
  const length = read(file, status)
  // A full buffer may end within a number.
  if (length === status.length) return []
  const text = status.toString('latin1', 0, length)
  const tids = statusNumbers(text, 'NSpid')
  return statusNumbers(text, 'NStgid').map((tgid, index) => [tids[index]!, tgid])
}

/** Returns the task that forked `tid`: the parent of a process; for another thread, the first thread of its process. */
export function forkedBy(tid: Tid): Tid {
  using file = openat(AT_FDCWD, cstring(`/proc/${tid}/status`), O_RDONLY)
  const text = status.toString('latin1', 0, read(file, status))
  const process = Number(statusField(text, 'Tgid'))
  return (process === tid ? Number(statusField(text, 'PPid')) : process) as Tid
}

/** Returns whether the first thread of a process is gone; others may still hang. false if we cannot find out now. */
export function isDefunct(pid: number): boolean {
  try {
    return 'ZX'.includes(statState(stat, readStat(AT_FDCWD, cstring(`/proc/${pid}/stat`))))
  } catch (error) {
    // Without a free descriptor (EMFILE) we cannot look; only these two errnos say that the process is gone.
    return isErrno(error, 'ENOENT', 'ESRCH')
  }
}

/**
 * Measures how long the first thread of a process sleeps. Time in which it works, or waits for a processor, does not
 * count: on a slow or busy machine that may take any time, and says nothing about what the process does.
 */
export class SleepTime {
  readonly #proc: Handle
  readonly #pid: number
  #at = now()
  #busy: number
  #slept = 0

  /** @param proc a procfs in which `pid` is the number of the process */
  constructor(proc: Handle, pid: number) {
    this.#proc = proc
    this.#pid = pid
    this.#busy = this.#busyTime()
  }

  /** Returns the milliseconds since this object was made in which the process slept, or was stopped or gone. */
  look(): number {
    const [at, busy] = [this.#at, this.#busy]
    this.#at = now()
    this.#busy = this.#busyTime()
    // The kernel counts a turn, or a wait for one, at its end.
    const isBusy = stateIn(this.#proc.raw, cstring(`${this.#pid}/stat`)) === 'R'
    if (!isBusy) this.#slept += Math.max(0, this.#at - at - (this.#busy - busy))
    return this.#slept
  }

  /** `/proc/PID/schedstat`: nanoseconds on a processor, nanoseconds of waiting for one, number of turns. */
  #busyTime(): number {
    try {
      using file = openat(this.#proc.raw, cstring(`${this.#pid}/schedstat`), O_RDONLY)
      const [worked = 0, waited = 0] = stat.toString('latin1', 0, read(file, stat)).split(' ').map(Number)
      return (worked + waited) / 1e6
    } catch {
      return this.#busy ?? 0
    }
  }
}

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

const libcSigaction = libc.func('int sigaction(int signal, uint8_t *action, void *old)')
const libcPthreadSigmask = libc.func('int pthread_sigmask(int how, uint8_t *set, void *old)')
const syscallTgkill = libc.func('long syscall(long number, long process, long thread, long signal)')
const { tgkill } = ownSyscalls(process.arch)

/** Of SIGURG, which does nothing where nobody handles it, and Node does not. */
const set = Buffer.alloc(SIGSET_SIZE)
set.writeBigUInt64LE(1n << BigInt(SIGURG - 1))

/**
 * Installs a handler, without which `interrupt` does nothing: from now on the signal ends a system call of a thread
 * that allows it (EINTR). The handler is abs(3), a C function that takes the signal's number and has no effect.
 */
export function armInterrupts(): void {
  const action = Buffer.alloc(SIGACTION_SIZE)
  action.writeBigUInt64LE(libc.symbol('abs', 'void *') as bigint)
  check('sigaction', libcSigaction(SIGURG, action, null))
}

/** Allows or blocks interrupts of the calling thread; an interrupt that comes while they are blocked stays pending. */
export function allowInterrupts(may: boolean): void {
  libcPthreadSigmask(may ? SIG_UNBLOCK : SIG_BLOCK, set, null)
}

/** Interrupts the system call of a thread, if that thread allows it. @returns false if the thread is gone */
export const interrupt = (thread: Tid): boolean => syscallTgkill(tgkill, process.pid, thread, SIGURG) === 0

/** A time namespace, and how far its boot clock is ahead of the host's, in milliseconds. */
export interface TimeNamespace {
  readonly inode: number
  readonly aheadMs: number
}

/**
 * Returns the time namespace of a task; undefined if the kernel has none, or if the task has unshared that of its
 * children, since then no file tells the offsets of its own: linux/kernel/time/namespace.c proc_timens_show_offsets()
 *
 * @param name gives the path of an entry of the task, which is read at once
 * @param read returns the text of an entry
 */
export function timeNamespaceOf(
  proc: number,
  name: (entry: string) => Uint8Array,
  read: (entry: string) => string,
): TimeNamespace | undefined {
  const inode = orUndefined(['ENOENT'], () => namespaceInode(proc, name('ns/time')))
  if (inode === undefined || namespaceInode(proc, name('ns/time_for_children')) !== inode) return undefined
  return { inode, aheadMs: bootOffset(read('timens_offsets')) }
}

/** @returns milliseconds; the line is: boottime SECONDS NANOSECONDS, see time_namespaces(7) */
function bootOffset(text: string): number {
  const [, seconds = 0, nanoseconds = 0] = /^boottime +(-?\d+) +(\d+)$/m.exec(text) ?? []
  return Number(seconds) * 1000 + Number(nanoseconds) / 1e6
}
