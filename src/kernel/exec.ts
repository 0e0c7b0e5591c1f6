import { SIG_IGN, SIGACTION_SIZE, SIGHUP } from '../abi/signal.ts'
import { SyscallError } from './error.ts'
import { passOn, setCloexecFrom } from './fd.ts'
import type { Handle } from './handle.ts'
import { check, lastErrno, libc } from './libc.ts'

const libcExecv = libc.func('int execv(const char *program, const char **argv)')
const libcSigaction = libc.func('int sigaction(int signal, uint8_t *action, uint8_t *old)')

/** The handler is the first word of `struct sigaction`. */
const IGNORED = new Uint8Array(SIGACTION_SIZE)
IGNORED[0] = SIG_IGN
/** Node marks the standard streams close-on-exec when it starts. */
const STANDARD = [0, 1, 2]

/**
 * Replaces the program of this process. The new program gets our environment, the standard streams and `fds` under
 * their numbers, and no other descriptor. SIGHUP, which would end the process, is ignored until the new program
 * resets that.
 *
 * Preconditions: the main thread calls this, whose signal mask the program gets, while no thread forks.
 *
 * @throws {SyscallError} if `program` cannot be executed; then only the flags of the standard streams have changed
 * @see execve(2)
 */
export function execv(program: string, args: readonly string[], fds: readonly Handle[]): never {
  // This includes descriptors which Node inherited and does not know.
  setCloexecFrom(STANDARD.length)
  for (const raw of [...STANDARD, ...fds.map(({ raw }) => raw)]) passOn(raw)
  const old = new Uint8Array(SIGACTION_SIZE)
  check('sigaction', libcSigaction(SIGHUP, IGNORED, old))
  libcExecv(program, [program, ...args, null])
  const errno = lastErrno()
  setCloexecFrom(STANDARD.length)
  libcSigaction(SIGHUP, old, null)
  throw new SyscallError('execve', errno)
}
