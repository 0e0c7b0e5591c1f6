import type { Dev, Errno, Mode, PathBytes } from '../abi/brand.ts'
import type { Handle } from '../kernel/handle.ts'
import type { Caller, Task } from './caller.ts'
import type { Context, DetachedMount } from './context.ts'
import type { ProgramVerbs } from './device-programs.ts'
import type { FuseMount } from './fuse.ts'
import type { MountCall, MountManner, SuperblockRequest } from './mounts.ts'
import type { Reason } from './reason.ts'
import type { Step } from './steps.ts'

/** What each of the three calls says; they differ in what they leave as it is. */
export type Scheduling =
  | { readonly by: 'sched_setscheduler'; readonly policy: number; readonly priority: number }
  | { readonly by: 'sched_setparam'; readonly priority: number }
  | { readonly by: 'sched_setattr'; readonly attr: Uint8Array }

/** The closed list of privileged things that are done at all. An act is data: it can be compared, tested and moved. */
export interface Verbs extends ProgramVerbs {
  /** Where the file system of `dir` cannot hold a node that can be opened. */
  readonly placeNode: { readonly dir: Handle; readonly name: PathBytes; readonly mode: Mode; readonly dev: Dev }
  /** `trusted.overlay.opaque` = `y` */
  readonly setxattr: { readonly inode: Handle; readonly flags: number }
  readonly removexattr: { readonly inode: Handle }
  /** The same attribute, for the caller's buffer. */
  readonly getxattr: { readonly inode: Handle; readonly at: bigint; readonly size: number }
  readonly listxattr: { readonly inode: Handle; readonly at: bigint; readonly size: number }
  /** What is known already; nothing privileged is done. */
  readonly report: { readonly writes: readonly Write[] }
  readonly mknod: { readonly dir: Handle; readonly name: PathBytes; readonly mode: Mode; readonly dev: Dev }
  readonly schedule: { readonly task: Task; readonly to: Scheduling }
  readonly mount: { readonly call: MountCall; readonly target: Handle; readonly namespace: Handle }
  /** By a FUSE program of the container's own. */
  readonly fuse: FuseMount
  readonly placeMount: { readonly mount: DetachedMount; readonly target: Handle; readonly namespace: Handle }
  /** What takes the place of a mount in the caller's table. */
  readonly renewMount: {
    readonly mount: DetachedMount
    /** What it is made of, if it may have been used up already. */
    readonly anew?: SuperblockRequest
    readonly attributes: bigint
    readonly manner: MountManner
    readonly replaces: number
  }
  /** A context that is given to the caller. */
  readonly openContext: { readonly type: string; readonly cloexec: boolean }
  readonly create: { readonly context: Context; readonly description: SuperblockRequest }
  /** A mount that is given to the caller. */
  readonly mountContext: {
    readonly context: Context
    readonly made: Handle
    /** What it is made of, if it may have been mounted already. */
    readonly anew?: SuperblockRequest
    /** MOUNT_ATTR_*. */
    readonly attributes: bigint
    readonly cloexec: boolean
    readonly manner: MountManner
  }
}
export type Act = { [V in keyof Verbs]: { readonly verb: V } & Verbs[V] }[keyof Verbs]

/** Bytes for the caller's memory. */
export interface Write {
  readonly at: bigint
  readonly bytes: Uint8Array
}

/** What the caller gets back. */
export interface Effect {
  /** What the call returns, unless a descriptor goes with the answer. */
  readonly value: bigint
  /** The act was tried and failed, and the kernel's own call has something to write all the same. */
  readonly errno?: Errno
  /** Why, if the errno is not simply the kernel's, or the act was not done now. */
  readonly why?: Reason
  /** Written before the answer; memory that cannot be written makes the call fail with EFAULT. */
  readonly writes?: readonly Write[]
  /** Goes with the answer, atomically, and is the engine's to close: the call returns its number in the caller's table. */
  readonly fd?: Handle
  /** Shall it be closed by execve(2)? */
  readonly cloexec?: boolean
  /** The descriptor takes the place of this one of the caller's, and the call returns `value`. */
  readonly replaces?: number
  /** What will stand there when the call comes again, if `Once.stands` does not see it yet. */
  readonly made?: readonly Mark[]
  /** Told the number that the descriptor has in the caller's table. */
  readonly sent?: (fd: number) => void
}

/** The note of an act: what it wants to reach was not so before. */
export const WAS_NOT = 1n

/** What an engine that ended has left of an act. */
export interface RecoveryTrace {
  /** When it received the call, in milliseconds since 1970. */
  readonly since: number
  /** What the act has noted last; 0 for nothing. */
  readonly note: bigint
}

/**
 * How an act is known again that was done, but whose answer did not arrive: a signal had cancelled the call, which then
 * comes again.
 */
export interface Replayable<A> {
  /** What the kernel says to the call that comes again; undefined if it would just do it twice. */
  readonly unrepeatedErrno: Errno | undefined
  /** Not an act of this kind that can be repeated? */
  readonly isReplayable?: (act: A) => boolean
  /** What the two calls have in common, beyond thread and registers. */
  readonly key: (act: A) => readonly Mark[]
  /** What stands there after the act, and when the call comes again: equal, if it is that and nobody has changed it. */
  readonly fingerprint: (act: A, caller: Caller) => readonly Mark[] | undefined
}

/** A part of what tells one thing from another. */
export type Mark = bigint | number | string | Uint8Array

export interface Verb<A> {
  /** All that it may do with capabilities in effect, whenever it runs: `perform` sees to it. */
  readonly steps: readonly Step[]
  /** Why this is safe, in one sentence: docs/security.md is generated from it. */
  readonly safe: string
  /** @throws {SyscallError} the kernel's own errno for the caller @throws {ContinueError} only if nothing was done */
  run(act: A, caller: Caller): Effect
  /**
   * Was this act, which an engine had begun and that ended meanwhile, done? Completes it where only a part was. Without this
   * an act is one that can be done again.
   */
  recover?(act: A, caller: Caller, trace: RecoveryTrace): Effect | undefined
  /** Of an act that must not be done twice. */
  readonly once?: Replayable<A>
}
