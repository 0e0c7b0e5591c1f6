import type { Tid } from '../abi/brand.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { O_RDONLY, openat, read } from './files.ts'
import type { Handle } from './handle.ts'
import { check, cstring, libc } from './libc.ts'

const PR_SET_SECUREBITS = 28
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

/** The id of the calling thread. */
export const currentTid = (): Tid => libcSyscall(gettid, 0) as Tid

/** Securebits of the calling thread. @throws {SyscallError} EPERM without CAP_SETPCAP */
export function setSecurebits(bits: number): void {
  check('prctl', libcPrctl(PR_SET_SECUREBITS, bits, 0, 0, 0))
}

const STAT_LIMIT = 512
const stat = Buffer.alloc(STAT_LIMIT)

/** Does this thread of ours run, or wait only for a processor? @returns false if it waits for anything else, or is gone */
export const isRunning = (thread: Tid): boolean => stateIn(AT_FDCWD, `/proc/self/task/${thread}/stat`) === 'R'

/** What a task does, as one letter: R runs, S sleeps, D sleeps whatever signal comes. @returns '' if it is gone */
export const stateOf = (proc: Handle, tid: Tid): string => stateIn(proc.raw, `${tid}/stat`)

function stateIn(directory: number, path: string): string {
  try {
    using file = openat(directory, cstring(path), O_RDONLY)
    const text = stat.toString('latin1', 0, read(file, stat))
    return text.charAt(text.lastIndexOf(')') + 2)
  } catch {
    return ''
  }
}

const status = Buffer.alloc(4096)
const numberAfter = (text: string, label: string): number =>
  Number.parseInt(text.slice(text.indexOf(label) + label.length), 10)

/** From which task this one was forked, as far as the kernel tells: for a thread, the first one of its process. */
export function forkedBy(tid: Tid): Tid {
  using file = openat(AT_FDCWD, cstring(`/proc/${tid}/status`), O_RDONLY)
  const text = status.toString('latin1', 0, read(file, status))
  const process = numberAfter(text, '\nTgid:\t')
  return (process === tid ? numberAfter(text, '\nPPid:\t') : process) as Tid
}
