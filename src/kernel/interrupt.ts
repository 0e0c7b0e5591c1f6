import type { Tid } from '../abi/brand.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { check, libc } from './libc.ts'

/** It does nothing where nobody handles it, and Node does not. */
const SIGURG = 23
const SIG_BLOCK = 0
const SIG_UNBLOCK = 1
/** `struct sigaction` of the C library: handler, mask (128 bytes), flags, restorer. */
const SIGACTION_SIZE = 152
const SIGSET_SIZE = 128

const libcSigaction = libc.func('int sigaction(int signal, uint8_t *action, void *old)')
const libcPthreadSigmask = libc.func('int pthread_sigmask(int how, uint8_t *set, void *old)')
const libcSyscall = libc.func('long syscall(long number, long process, long thread, long signal)')
const { tgkill } = ownSyscalls(process.arch)

const set = Buffer.alloc(SIGSET_SIZE)
set.writeBigUInt64LE(1n << BigInt(SIGURG - 1))

/**
 * From now on `interrupt` ends a system call of a thread that lets it (EINTR), instead of nothing. What handles the signal is
 * abs(3): it takes the number of the signal and does nothing with it.
 */
export function armInterrupts(): void {
  const action = Buffer.alloc(SIGACTION_SIZE)
  action.writeBigUInt64LE(libc.symbol('abs', 'void *') as bigint)
  check('sigaction', libcSigaction(SIGURG, action, null))
}

/** May the calling thread be interrupted? What came while it might not comes when it may. */
export function allowInterrupts(may: boolean): void {
  libcPthreadSigmask(may ? SIG_UNBLOCK : SIG_BLOCK, set, null)
}

/** Interrupts a thread of this process, if it lets that be and waits in the kernel. @returns false if it is gone */
export const interrupt = (thread: Tid): boolean => libcSyscall(tgkill, process.pid, thread, SIGURG) === 0
