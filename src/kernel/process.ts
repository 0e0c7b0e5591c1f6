import { readFileSync } from 'node:fs'
import type { Tid } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import { AT_FDCWD, O_RDONLY } from '../abi/fcntl.ts'
import { PR_GET_NO_NEW_PRIVS, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, PR_SET_SECUREBITS } from '../abi/prctl.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { SyscallError } from './error.ts'
import { openat, read } from './files.ts'
import { check, cstring, libc } from './libc.ts'

export const SECBIT_NO_SETUID_FIXUP = 4

const libcPrctl = libc.func('int prctl(int option, ulong a, ulong b, ulong c, ulong d)')
const libcSyscall = libc.func('long syscall(long number, long argument)')
const { exit_group, gettid } = ownSyscalls(process.arch)

/**
 * Ends the process at once. `process.exit`, `worker.terminate` and an uncaught exception hang while another thread is
 * in a foreign call; this does not, and nothing that was registered for the exit runs.
 */
export function exitGroup(status: number): never {
  libcSyscall(exit_group, status)
  throw new Error('unreachable')
}

const WNOHANG = 1
const libcWaitpid = libc.func('int waitpid(int pid, void *status, int options)')

/** @returns those of the main thread; none where the kernel does not list them (CONFIG_PROC_CHILDREN) */
export function children(): readonly number[] {
  try {
    const list = readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1')
    return list.split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Has this child ended? Then it is none any more. Not for one that Node has started, which waits for it itself. */
export const hasEnded = (child: number): boolean => libcWaitpid(child, null, WNOHANG) !== 0

/** The id of the calling thread. */
export const currentTid = (): Tid => libcSyscall(gettid, 0) as Tid

export const SIGKILL = 9
export const SIGCONT = 18

/** The calling process gets this signal when the thread that has started it ends. */
export function signalAtParentsDeath(signal: number): void {
  check('prctl', libcPrctl(PR_SET_PDEATHSIG, signal, 0, 0, 0))
}

/** Securebits of the calling thread. @throws {SyscallError} EPERM without CAP_SETPCAP */
export function setSecurebits(bits: number): void {
  check('prctl', libcPrctl(PR_SET_SECUREBITS, bits, 0, 0, 0))
}

/** No program that the calling thread executes gives it more than it has: for good, and for what it starts. */
export function setNoNewPrivileges(): void {
  check('prctl', libcPrctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

/** Of the calling thread. */
export const hasNoNewPrivileges = (): boolean => libcPrctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) === 1

const stat = Buffer.alloc(1024)
const NAME_END = 0x29
const SPACE = 0x20
const DIGIT = 0x30
/** Fields of proc_pid_stat(5), counted from the one after the name. */
const STATE = 0
const PPID = 1
const STARTTIME = 19

/**
 * Reads a file such as /proc/TID/stat. The name in it may hold anything, but no field after it a parenthesis.
 *
 * @returns where a field begins in `stat`
 * @throws {SyscallError} ENOENT, ESRCH if the task is gone
 */
function find(field: number, directory: number, path: Uint8Array): number {
  using file = openat(directory, path, O_RDONLY)
  const length = read(file, stat)
  let at = stat.lastIndexOf(NAME_END, length - 1) + 2
  for (let skipped = 0; skipped < field; skipped++) at = stat.indexOf(SPACE, at) + 1
  return at
}

function numberAt(start: number): number {
  let value = 0
  for (let at = start; stat[at]! >= DIGIT; at++) value = value * 10 + stat[at]! - DIGIT
  return value
}

/**
 * What a task does, as one letter: R runs, S sleeps, D sleeps whatever signal comes.
 *
 * @param directory a descriptor, or AT_FDCWD
 * @param path of its `stat`
 * @returns '' if it is gone
 */
export function stateIn(directory: number, path: Uint8Array): string {
  try {
    return String.fromCharCode(stat[find(STATE, directory, path)]!)
  } catch {
    return ''
  }
}

/** The process that a task is a child of. @throws {SyscallError} ENOENT, ESRCH if the task is gone */
export const parentIn = (directory: number, path: Uint8Array): number => numberAt(find(PPID, directory, path))

/** When a task was started, in ticks since the boot. @throws {SyscallError} ENOENT, ESRCH if it is gone */
export const startIn = (directory: number, path: Uint8Array): number => numberAt(find(STARTTIME, directory, path))

/** When a process was started, in ticks since the boot. @returns undefined if there is none of that number */
export function startTime(pid: number | 'self'): number | undefined {
  try {
    return startIn(AT_FDCWD, cstring(`/proc/${pid}/stat`))
  } catch {
    return undefined
  }
}

/** Does this thread of ours run, or wait only for a processor? @returns false if it waits for anything else, or is gone */
export const isRunning = (thread: Tid): boolean => stateIn(AT_FDCWD, cstring(`/proc/self/task/${thread}/stat`)) === 'R'

/** Room for about a thousand groups; what is looked for stands before them, or soon after. */
const status = Buffer.alloc(16 * 1024)
const numberAfter = (text: string, label: string): number =>
  Number.parseInt(text.slice(text.indexOf(label) + label.length), 10)

const numbersAfter = (text: string, label: string): readonly number[] => {
  const start = text.indexOf(label)
  return start < 0
    ? []
    : text
        .slice(start + label.length, text.indexOf('\n', start + 1))
        .split('\t')
        .map(Number)
}

/** Of a thread and its process in one pid namespace. */
export type Numbers = readonly [tid: number, tgid: number]

/**
 * The numbers of a task in all pid namespaces that it is in: first in the one of the procfs, last in its own.
 *
 * @param directory a descriptor
 * @param path of its `status`
 * @returns none if the list of its groups is too long
 * @throws {SyscallError} ENOENT, ESRCH if the task is gone
 */
export function numbersIn(directory: number, path: Uint8Array): readonly Numbers[] {
  using file = openat(directory, path, O_RDONLY)
  const length = read(file, status)
  // It may end within a number.
  if (length === status.length) return []
  const text = status.toString('latin1', 0, length)
  const tids = numbersAfter(text, '\nNSpid:\t')
  return numbersAfter(text, '\nNStgid:\t').map((tgid, index) => [tids[index]!, tgid])
}

/** From which task this one was forked, as far as the kernel tells: for a thread, the first one of its process. */
export function forkedBy(tid: Tid): Tid {
  using file = openat(AT_FDCWD, cstring(`/proc/${tid}/status`), O_RDONLY)
  const text = status.toString('latin1', 0, read(file, status))
  const process = numberAfter(text, '\nTgid:\t')
  return (process === tid ? numberAfter(text, '\nPPid:\t') : process) as Tid
}

/** Is the first thread of this process gone? The others may still hang. @returns false if that cannot be seen now */
export function isDefunct(pid: number): boolean {
  try {
    return 'ZX'.includes(String.fromCharCode(stat[find(STATE, AT_FDCWD, cstring(`/proc/${pid}/stat`))]!))
  } catch (error) {
    // Without a free descriptor nobody can look: that it is gone, nothing else tells.
    return error instanceof SyscallError && (error.errno === errnos.ENOENT || error.errno === errnos.ESRCH)
  }
}
