import type { Tid } from '../abi/brand.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { check, libc } from './libc.ts'

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
