import type { Tid } from '../../abi/brand.ts'
import type { IdExtent } from '../../abi/credentials.ts'
import type { Exec } from '../../calls/fuse.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import type { TimeNamespace } from '../../kernel/process.ts'
import type { Policy } from '../../policy/policy.ts'

/** File descriptors of the engine that stay open as long as the container is known. */
export interface ContainerHandles {
  /** The container's initial user namespace. */
  readonly userns: number
  /** The pid namespace of the container's init. */
  readonly pidns: number
  /** A pidfd of the container's init. */
  readonly init: number
  /**
   * The cgroup v2 directory in which the init was at hand-over; absent if the host does not mount the unified
   * hierarchy.
   */
  readonly cgroup?: number
  /** The init's cgroup directory of v1's memory controller; absent if the host does not use that controller. */
  readonly memory?: number
  /** The init's cgroup directory of v1's devices controller; absent if the engine itself is in that cgroup too. */
  readonly devices?: number
  /** The cgroup that, as far as we can tell, holds all tasks of the container and no other task. */
  readonly tasks?: number
  /** The mount namespace of the container's runtime; absent if it is the engine's own. */
  readonly runtime?: number
}

/** The numbers by which keeper and engine name a container: a message about it may come after its end. */
export type ContainerNumbers = Pick<Container, 'index' | 'serial'>

/** Describes a container to the threads of the engine. It is structured-cloneable, so that it can be posted to them. */
export interface Container {
  readonly index: number
  /** A number above 0 that no other container ever has, not even a later container with the same index. */
  readonly serial: number
  readonly id: string
  readonly policy: Policy
  /** The highest real-time priority that its tasks may have, also by an earlier policy; absent for none. */
  readonly rtHighest?: number
  /** Set if its policy, also an earlier one, delegates anything to the holders of BPF tokens. */
  readonly mayHaveTokens?: boolean
  /** The uid map of the initial user namespace: a host id that it maps belongs to the container. */
  readonly uidMap: readonly IdExtent[]
  readonly gidMap: readonly IdExtent[]
  /** The inode number of the initial user namespace. `handles.userns` keeps it from being reused. */
  readonly userns: bigint
  /**
   * The init's number in our pid namespace, 0 if unknown. Only the pidfd proves that the number is still the init's.
   */
  readonly initTid: Tid
  /** When the init was started, in milliseconds on the host's boot clock. */
  readonly startedMs: number
  /** The file systems, as MAJOR:MINOR, that had a mount with nodev at the hand-over; undefined if no init was seen. */
  readonly nodev?: ReadonlySet<string>
  /** Set if lxcfs showed the container's own memory in its /proc/meminfo at the hand-over. */
  readonly lxcfs?: true
  /** The time namespace of the init, unless that is not known. */
  readonly time?: TimeNamespace
  /** undefined for a container whose init was not seen; such a container is `barred`. */
  readonly handles?: ContainerHandles
  /** True if no signal cancels a call that is being served: the filter has SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV. */
  readonly waitKillable: boolean
  /** How the runtime starts a program in the container; set only if the policy has FUSE programs. */
  readonly exec?: Exec
  /** Set only if an unprivileged user runs the daemon (rootless). */
  readonly ofUser?: {
    /** Calls that the policy allows but that only the host's root could serve. */
    readonly withheld: ReadonlySet<string>
  }
  /** Why nothing may be done for this container; every call is then continued. */
  readonly barred?: ReasonCode
}
