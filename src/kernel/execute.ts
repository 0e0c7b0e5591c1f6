import { SyscallError } from './error.ts'
import { passOn, setCloexecFrom } from './fd.ts'
import type { Handle } from './handle.ts'
import { check, lastErrno, libc } from './libc.ts'

const libcExecv = libc.func('int execv(const char *program, const char **argv)')
const libcSigaction = libc.func('int sigaction(int signal, uint8_t *action, uint8_t *old)')

const SIGHUP = 1
/** `struct sigaction` of the C library; the handler is its first word. */
const SIGACTION_SIZE = 152
const IGNORED = new Uint8Array(SIGACTION_SIZE)
/** SIG_IGN. */
IGNORED[0] = 1
/** Node marks them close-on-exec when it starts. */
const STANDARD = [0, 1, 2]

/**
 * Becomes another program in the same process, which gets our environment, the standard streams and `fds` under their numbers,
 * and nothing else. To be called by the main thread, whose signal mask it gets, while nothing forks. SIGHUP is ignored until
 * the program has reset that: it would end the process.
 *
 * @throws {SyscallError} if it cannot be executed: all is as before then, but for the marks of the standard streams
 * @see execve(2)
 */
export function execv(program: string, args: readonly string[], fds: readonly Handle[]): never {
  // Also those that Node itself has got from whoever started it, and does not know of.
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
