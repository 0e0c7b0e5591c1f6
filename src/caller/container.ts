import type { IdExtent } from '../abi/id-map.ts'
import type { ReasonCode } from '../calls/reason.ts'
import type { Policy } from '../policy/policy.ts'

/** A container as the engine's threads know it. Structured-cloneable. */
export interface Container {
  readonly index: number
  readonly id: string
  readonly policy: Policy
  /** Of its initial user namespace: what is mapped there is the container's. */
  readonly uidMap: readonly IdExtent[]
  readonly gidMap: readonly IdExtent[]
  /** The inode of its initial user namespace, which is held open as long as the container is known. */
  readonly userns: bigint
  /** Nothing may be done for it, and why: every call is passed on. */
  readonly barred?: ReasonCode
}
