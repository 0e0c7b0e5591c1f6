import type { Container } from '../../caller/identity/container.ts'
import type { LxcProxyCall } from '../lxc/lxc-proxy.ts'

/** A call that its thread has received. */
export interface Call {
  /** Offset in the journal, in bytes. */
  readonly slot: number
  /** The listener's descriptor; for a forwarded call, the one that LXC's monitor has sent. */
  readonly listenerFd: number
  readonly container: Container
  /** `now()` when the call was received, in milliseconds. */
  readonly start: number
  /** Set if a monitor of LXC received the call: the monitor waits for a reply after the caller's answer. */
  readonly forwarded?: LxcProxyCall
  /** Set if an earlier engine received the call: the state, of `STATE`, in which that engine left the slot. */
  readonly left?: number
  /** Engines have failed while they served this call. */
  readonly isPoison?: boolean
}
