import type { HostId, PathBytes, Tid } from '../../abi/brand.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { ProcStatus } from '../../kernel/procfs/status.ts'
import type { Container } from '../identity/container.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'

/** Where a lookup starts, and whose it is. */
export interface LookupStart {
  /** The caller's root directory, opened when it is needed. */
  root(): Handle
  /** Makes it the root of the looking thread, whose it need not be before. */
  stand(): void
  /** What the path starts from: the root if it is absolute. */
  readonly base: Handle
  /** The procfs in which we know ourselves, as the host sees it: no container can mount there. */
  readonly proc: Handle
  /** The caller's thread and process there. */
  readonly numbers: readonly [tid: number, tgid: number]
  /** The caller's file system user, as the looking thread sees it. */
  readonly fsuid: HostId
  /** The directory of the caller's process there. */
  process(): Handle
  /** Runs `action` with the right to follow the links of the caller's own process, which itself may follow them in any case. */
  looking<T>(action: () => T): T
  /** Has the caller CAP_SYS_PTRACE in the container's user namespace? Only then links of other tasks are followed. */
  readonly isPtracer: boolean
  /**
   * The directory there of another task of the container. Only for who has the rights of the caller and no more, which is the
   * walker: whether a task may be looked at the kernel alone can say (linux/kernel/ptrace.c __ptrace_may_access() asks of whom
   * its memory is), and an engine thread it would let look at any.
   *
   * @param number gives its number there
   */
  other?(number: () => Tid): Fd
}

/**
 * What shall be at the end: a directory; anything; anything, and a symbolic link there is not followed; or anything that
 * another process finds under the same path, so nothing in procfs and no link of it on the way.
 */
export type LookupKind = 'directory' | 'object' | 'link' | 'outsideProc'

/** What a lookup looks for. */
export interface LookupRequest {
  readonly path: PathBytes
  readonly wanted: LookupKind
}

/** What a thread has for lookups: made once. */
export interface LookupServices {
  readonly identity: ThreadIdentity
  /** The host's /proc. */
  readonly proc: Handle
  /** Called before something that may block for long. */
  readonly mayBlock: () => void
  /** Lets the container's walker look up. @throws {ContinueError} if it has none that answers */
  readonly walk: (container: Container, start: LookupStart, status: ProcStatus, goal: LookupRequest) => Fd
}
