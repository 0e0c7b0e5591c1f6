import type { Tid } from '../../abi/brand.ts'
import type { IdExtent } from '../../abi/id-map.ts'
import type { Exec } from '../../calls/fuse.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import type { Policy } from '../../policy/policy.ts'

/** Descriptors of the engine, held as long as the container is known. */
export interface ContainerHandles {
  /** Its initial user namespace. */
  readonly userns: number
  /** The pid namespace of its init. */
  readonly pidns: number
  /** A pidfd of its init. */
  readonly init: number
  /** The directory of the unified hierarchy in which its init was at hand-over, if that is mounted on the host. */
  readonly cgroup?: number
  /** The same in the hierarchy of v1's memory controller, if the host uses that. */
  readonly memory?: number
  /** The same in the hierarchy of v1's controller of devices, where that group is not ours too. */
  readonly devices?: number
  /** The group that holds its tasks and nobody else's, as far as that can be told. */
  readonly tasks?: number
  /** The mount namespace of its runtime, where that is not ours. */
  readonly runtime?: number
}

/** A container as the engine's threads know it. Structured-cloneable. */
export interface Container {
  readonly index: number
  /** No other container has it, also none that gets the same index later. Above 0. */
  readonly serial: number
  readonly id: string
  readonly policy: Policy
  /** Of its initial user namespace: what is mapped there is the container's. */
  readonly uidMap: readonly IdExtent[]
  readonly gidMap: readonly IdExtent[]
  /** The inode of its initial user namespace, which is held open as long as the container is known. */
  readonly userns: bigint
  /** Its init in our pid namespace; 0 if it is not known. A number, which only the pidfd proves to be still its own. */
  readonly initTid: Tid
  /** When its init was started: milliseconds on our boot clock. */
  readonly startedMs: number
  /** undefined for a container whose init was not seen: then it is barred. */
  readonly handles?: ContainerHandles
  /** No signal cancels a call of it that is being served: its filter has SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV. */
  readonly waitKillable: boolean
  /** How its runtime starts a program in it; only where the policy has FUSE programs. */
  readonly exec?: Exec
  /** Only for a daemon that a user runs. */
  readonly ofUser?: {
    /** Calls that the policy would have us serve, but that only root of the host could. */
    readonly withheld: ReadonlySet<string>
  }
  /** Nothing may be done for it, and why: every call is passed on. */
  readonly barred?: ReasonCode
}
