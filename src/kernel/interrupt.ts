import type { Tid } from '../abi/brand.ts'
import { SIG_BLOCK, SIG_UNBLOCK, SIGACTION_SIZE, SIGSET_SIZE, SIGURG } from '../abi/signal.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { check, libc } from './libc.ts'

const libcSigaction = libc.func('int sigaction(int signal, uint8_t *action, void *old)')
const libcPthreadSigmask = libc.func('int pthread_sigmask(int how, uint8_t *set, void *old)')
const libcSyscall = libc.func('long syscall(long number, long process, long thread, long signal)')
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
export const interrupt = (thread: Tid): boolean => libcSyscall(tgkill, process.pid, thread, SIGURG) === 0
