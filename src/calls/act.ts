import type { Errno, PathBytes } from '../abi/brand.ts'
import type { ResourceLimit } from '../abi/rlimit.ts'
import type { Handle } from '../kernel/fd.ts'
import type { Caller, NodevReason, Task } from './caller.ts'
import type { Context, DetachedMount, MountManner, Parameter } from './context.ts'
import type { ProgramVerbs } from './device-programs.ts'
import type { FuseMount } from './fuse.ts'
import type { MountCall, NodeRequest, RemountCall, SuperblockRequest } from './mounts.ts'
import type { Reason } from './reasons.ts'
import type { Step } from './steps.ts'

/**
 * The request of each scheduling call, about one task; sched_setparam keeps the policy, and the flags of sched_attr can
 * keep more.
 */
export type Scheduling =
  | { readonly by: 'sched_setscheduler'; readonly policy: number; readonly priority: number }
  | { readonly by: 'sched_setparam'; readonly priority: number }
  | { readonly by: 'sched_setattr'; readonly attr: Uint8Array }
  | { readonly by: 'setpriority'; readonly nice: number }
  | { readonly by: 'ioprio_set'; readonly ioprio: number }

/** An attribute of an inode. */
interface NamedAttribute {
  readonly inode: Handle
  /** With its NUL. */
  readonly name: PathBytes
}

/** The closed list of privileged acts, by verb. An act is data: it can be compared, tested and moved. */
export interface Verbs extends ProgramVerbs {
  /**
   * Makes a device node that could not be opened, for the reason `why`, and mounts one of ours on it, which opens.
   * With `opensHost` it is the other way round: an empty file is made, and our node on it never opens.
   */
  readonly placeNode: NodeRequest & { readonly why: NodevReason['why'] | 'opensHost' }
  /** Sets `trusted.overlay.opaque` to `y`, or an attribute that the policy names. */
  readonly setxattr: NamedAttribute & { readonly value: Uint8Array; readonly flags: number }
  readonly removexattr: NamedAttribute
  /** Reads an attribute into the caller's buffer at address `at`, of `size` bytes. */
  readonly getxattr: NamedAttribute & { readonly at: bigint; readonly size: number }
  /** Lists these attributes beside those that the kernel lists to the caller. @param allowed as the policy has it */
  readonly listxattr: {
    readonly inode: Handle
    readonly at: bigint
    readonly size: number
    readonly allowed: ReadonlySet<string>
  }
  /** Writes what is known already into the caller's memory; needs no privilege. */
  readonly report: { readonly writes: readonly Write[] }
  readonly mknod: NodeRequest
  readonly schedule: { readonly task: Task; readonly to: Scheduling }
  /** Sets the limits of a task's process; the old ones go to address `old`, unless that is 0. */
  readonly limit: {
    readonly task: Task
    readonly resource: number
    readonly limit: ResourceLimit
    readonly old: bigint
  }
  readonly mount: { readonly call: MountCall; readonly target: Handle; readonly namespace: Handle }
  /** Mounts by a FUSE program of the container's own image. */
  readonly fuse: FuseMount
  readonly placeMount: {
    /** In the mount that is placed. */
    readonly handle: Handle
    /** undefined if we do not have it: perhaps this call has placed it, before a signal cancelled the call. */
    readonly mount?: DetachedMount
    readonly target: Handle
    readonly namespace: Handle
  }
  /** Makes a detached mount with other attributes, which replaces descriptor `replaces` in the caller's table. */
  readonly renewMount: {
    readonly mount: DetachedMount
    /** How to make the file system again; set if the previous engine's act may have used up the mount. */
    readonly anew?: SuperblockRequest
    readonly attributes: bigint
    readonly manner: MountManner
    readonly replaces: number
  }
  /** Opens a context, which the caller gets: fsopen(2). */
  readonly openContext: { readonly type: string; readonly cloexec: boolean }
  /** Changes a tmpfs that we made: mount(2) with MS_REMOUNT. */
  readonly remount: RemountCall
  /** Opens a context of such a tmpfs, which the caller gets: fspick(2). */
  readonly pickContext: { readonly root: Handle; readonly cloexec: boolean }
  readonly reconfigure: { readonly context: Context; readonly picked: Handle }
  readonly create: {
    readonly context: Context
    /** undefined if the file system is made already: perhaps by this call, before a signal cancelled it. */
    readonly description?: SuperblockRequest
  }
  /** Records what a bpffs shall delegate, for the context of the caller's that is open as `fd`. */
  readonly delegate: {
    /** undefined for the first option of this context. */
    readonly context?: Context
    readonly fd: number
    readonly parameter: Parameter
  }
  /** Makes the bpffs in the caller's own context. */
  readonly createBpffs: {
    readonly context: Context
    /** The parameters to set; undefined if it is made already: perhaps by this call, before a signal cancelled it. */
    readonly parameters?: readonly Parameter[]
  }
  /** Makes a mount of what was made in a context, which the caller gets: fsmount(2). */
  readonly mountContext: {
    readonly context: Context
    readonly made: Handle
    /** How to make the file system again; set if an earlier act for this call may have mounted it. */
    readonly anew?: SuperblockRequest
    /** MOUNT_ATTR_*. */
    readonly attributes: bigint
    readonly cloexec: boolean
    readonly manner: MountManner
  }
}
export type Act = { [V in keyof Verbs]: { readonly verb: V } & Verbs[V] }[keyof Verbs]

/** Bytes to write into the caller's memory, and the address there. */
export interface Write {
  readonly at: bigint
  readonly bytes: Uint8Array
}

/** What the caller gets from an act. */
export interface Effect {
  /** The return value of the call, unless it returns the number of `fd`. */
  readonly value: bigint
  /** Set if the act failed and the kernel's own call would write to the caller's memory nevertheless. */
  readonly errno?: Errno
  /** The reason to record, if the errno is not simply the kernel's, or if the act was not done for this call. */
  readonly why?: Reason
  /** Written before the answer; if that fails, the call fails with EFAULT. */
  readonly writes?: readonly Write[]
  /** The caller gets it with the answer and the call returns its number there; the engine closes this descriptor. */
  readonly fd?: Handle
  /** Whether execve(2) closes the caller's descriptor. */
  readonly cloexec?: boolean
  /** The number of the caller's descriptor which `fd` replaces; the call then returns `value`. */
  readonly replaces?: number
  /** The fingerprint of the result, where `Replayable.fingerprint` cannot take it yet. */
  readonly made?: readonly Mark[]
  /**
   * Called with the number of the descriptor in the caller's table, or with undefined if the caller was gone before it
   * got `fd`. Without `fd`, the value is that number.
   */
  readonly sent?: (fd: number | undefined) => void
}

/** The note of an act whose result did not exist before the act began. */
export const WAS_NOT = 1n

/** What the previous engine left of an act that it had begun. */
export interface RecoveryTrace {
  /** When that engine received the call, in milliseconds since 1970. */
  readonly since: number
  /** The last note of the act; 0 for none. */
  readonly note: bigint
  /** The number of the caller's descriptor, if the note names one and the caller has got it. */
  readonly given?: number | undefined
}

/**
 * How to recognise a call that is repeated because a signal cancelled it: its act was done the first time, but the
 * answer did not arrive.
 */
export interface Replayable<A> {
  /** The errno which the kernel gives the repeated call; undefined if the kernel would do the act twice. */
  readonly conflictErrno: Errno | undefined
  /** Returns false for an act that must not be replayed, since doing it twice does no harm. */
  readonly isReplayable?: (act: A) => boolean
  /** Returns what the first and the repeated call have in common, besides thread and registers. */
  readonly key: (act: A) => readonly Mark[]
  /**
   * Identifies what the act left behind; taken after the act and again when the call is repeated. If both are equal,
   * nobody has changed it since, and the recorded result still holds.
   */
  readonly fingerprint: (act: A, caller: Caller) => readonly Mark[] | undefined
}

/** A part of a key or fingerprint. */
export type Mark = bigint | number | string | Uint8Array

export interface Verb<A> {
  /** All steps that the verb may do with capabilities in effect; `perform` enforces the list. */
  readonly steps: readonly Step[]
  /** Why this verb is safe; docs/guide/security.md is generated from it. */
  readonly safe: string
  /**
   * Does the act.
   *
   * @throws {SyscallError} the kernel's own errno for the caller
   * @throws {ContinueError} only if nothing was done
   */
  run(act: A, caller: Caller): Effect
  /**
   * Looks for the result of an act that the previous engine had begun, and completes an act that is half done. A verb
   * without this method can do its act again.
   *
   * @returns undefined if the act was not done
   */
  recover?(act: A, caller: Caller, trace: RecoveryTrace): Effect | undefined
  /** Set if an act must not be done twice when a cancelled call is repeated. */
  readonly once?: Replayable<A>
}
