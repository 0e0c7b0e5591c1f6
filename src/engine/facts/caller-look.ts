import type { Tid } from '../../abi/brand.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { ProcAccess } from '../../caller/task/proc-access.ts'
import { SyscallError } from '../../kernel/error.ts'
import { Fd } from '../../kernel/fd.ts'
import { openat, read } from '../../kernel/files.ts'
import { numberInNamespace } from '../../kernel/pidfd.ts'
import { CONTAINERS } from '../../link/limits.ts'
import { RateLimit } from '../../shared/rate-limit.ts'

/** Of each container: so many calls at once, and one more each second, have a look of their own. */
const LOOKS = { unit: 1000, burst: 10, longest: 10 }

/**
 * Finds out who made a call, for its record. If serving the call looked at the caller, the name comes from there. Of
 * all other calls it looks at the callers of only a few, because a look costs as much as the rest of such a call. It
 * does not read the caller's memory, so the caller cannot make it wait.
 *
 * Preconditions: each thread has its own; a call still waits for its answer, so that TID is the caller's.
 */
export class CallerLook {
  readonly #access: ProcAccess
  readonly #looks = new RateLimit(new Int32Array(CONTAINERS), LOOKS)

  constructor(access: ProcAccess) {
    this.#access = access
  }

  /** @param start when the call was received, in milliseconds */
  look({ index, handles }: Container, tid: Tid, start: number): void {
    const { callerName } = this.#access
    if (!callerName.isKnown) {
      if (this.#looks.left(index, start) < 1) return
      this.#looks.take(index, 1, start)
      this.#readComm(tid)
    }
    if (handles && callerName.isKnown) callerName.pid = numberInNamespace(new Fd(handles.pidns), tid) ?? 0
  }

  #readComm(tid: Tid): void {
    const { proc, names, status, callerName } = this.#access
    try {
      using file = openat(proc.raw, names.of(tid, 'comm'), O_RDONLY)
      callerName.takeComm(status, read(file, status))
    } catch (error) {
      // The caller has gone, or descriptors are short. The record has no name, but it is not lost.
      if (!(error instanceof SyscallError)) throw error
    }
  }
}
