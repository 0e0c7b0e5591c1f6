import type { PathBytes, Tid } from '../../abi/brand.ts'
import type { Caller } from '../../calls/caller.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { Container } from '../identity/container.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'

/** A program that the runtime of a container has been asked to start in it. */
export interface FuseJob {
  /** Its exit status, once it has ended; what daemonizes ends when its work begins. */
  readonly status: number | undefined
  /** Waits until it has ended. */
  wait(milliseconds: number): void
  /** It is not looked at any more. @param failed ends it, and waits until its last words are told */
  over(failed?: ReasonCode): void
}

export interface FuseServices {
  /** @returns undefined if the container or the host has too many starting already */
  readonly start: (container: Container, program: string, process: string) => FuseJob | undefined
}

/** The caller, as far as its FUSE programs need it. */
export interface FuseCaller {
  readonly tid: Tid
  readonly container: Container
  readonly identity: ThreadIdentity
  readonly services: FuseServices
  readonly caller: Pick<Caller, 'object' | 'parent' | 'deviceRules' | 'act' | 'note'>
  /**
   * What the caller finds under a path, if every other process of its container finds the same there.
   *
   * @throws {ContinueError} if it does not resolve, or leads through procfs
   */
  readonly outsideProc: (path: PathBytes) => Handle
  /** Its `/proc/TID`. */
  readonly task: () => Handle
  /** The host's `/proc`. */
  readonly proc: Handle
  readonly waits: () => boolean
  /** Called before the thread waits for somebody else. */
  readonly mayBlock: () => void
}
