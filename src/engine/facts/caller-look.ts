import type { Tid } from '../../abi/brand.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { ProcAccess } from '../../caller/task/proc-access.ts'
import { SyscallError } from '../../kernel/error.ts'
import { Fd } from '../../kernel/fd.ts'
import { openat, read } from '../../kernel/files.ts'
import { numberInNamespace } from '../../kernel/pidfd.ts'
import { RateLimit } from '../../shared/rate-limit.ts'
import { CONTAINERS } from '../tables/limits.ts'

/** Of each container: so many calls at once, and one more each second, have a look of their own. */
const LOOKS = { unit: 1000, burst: 10, longest: 10 }

/**
 * Finds out who makes a call, for its record. A call for which the caller was looked at anyway has the name from there.
 * Of all others only a few are looked at, since that costs as much as the rest of such a call. It reads nothing of the
 * caller's memory, so nothing that the caller does keeps it waiting.
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
      // The caller has gone, or descriptors are short: a record without a name is none that is lost.
      if (!(error instanceof SyscallError)) throw error
    }
  }
}
