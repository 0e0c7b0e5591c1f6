import type { PathBytes, Tid } from '../../abi/brand.ts'
import type { Caller } from '../../calls/caller.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import type { Handle } from '../../kernel/fd.ts'
import type { Container } from '../identity/container.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'

/** A program that the container's runtime was asked to start in the container. */
export interface FuseJob {
  /** The exit status, once the program has ended. A program that daemonizes ends when its file system is ready. */
  readonly status: number | undefined
  /** Whether others wait, who have fewer programs starting, so that this one should not take long. */
  readonly isPressed: boolean
  /** Waits until the program has ended, `milliseconds` at most. */
  wait(milliseconds: number): void
  /**
   * Ends the observation of the program.
   *
   * @param failed if given, the program is killed, and the method waits until its last output has been reported
   */
  over(failed?: ReasonCode): void
}

export interface FuseServices {
  /**
   * Starts a program for a task, once it is the container's turn.
   *
   * @param process the OCI process object as JSON
   * @returns undefined if the container has or starts too many, or it is not its turn in time
   */
  readonly start: (
    container: Container,
    what: { readonly program: string; readonly caller: Tid; readonly process: string },
  ) => FuseJob | undefined
}

/** The caller, as far as FUSE mounts need it. */
export interface FuseCaller {
  readonly tid: Tid
  readonly container: Container
  readonly identity: ThreadIdentity
  readonly services: FuseServices
  readonly caller: Pick<Caller, 'object' | 'parent' | 'deviceRules' | 'act' | 'note'>
  /**
   * Resolves a path of the caller to an object that every other process of the container finds under the same path.
   *
   * @throws {ContinueError} if the path does not resolve, or leads through procfs
   */
  readonly outsideProc: (path: PathBytes) => Handle
  /** Returns the caller's `/proc/TID`. */
  readonly task: () => Handle
  /** The host's `/proc`. */
  readonly proc: Handle
  readonly waits: () => boolean
  /** Called before the thread waits for another process. */
  readonly mayBlock: () => void
}
