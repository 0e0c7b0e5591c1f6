import type { Container } from '../../caller/identity/container.ts'
import type { Act } from '../../calls/act.ts'
import type { Syscall } from '../../calls/syscall.ts'
import type { LxcProxyCall } from '../lxc/lxc-proxy.ts'
import type { Replay } from '../replay/replay.ts'

/** Where a call was received, and for whom. */
interface Received {
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

/** A call that its thread has received, with what each step of the server finds out for the next step. */
export interface Call extends Received {
  /** From `Server.screen` or `read` on: undefined if the call is not served. */
  handler: Syscall<unknown> | undefined
  /** From `Server.read` on: the copy of what the caller asks. */
  request: unknown
  /** From the beginning of the act on, if it must not be done twice. */
  replay: Replay<Act> | undefined
}

/** A call is one object with all members from the start, so that V8 compiles its users for one shape. */
export const receivedCall = (received: Received): Call => ({
  ...received,
  handler: undefined,
  request: undefined,
  replay: undefined,
})

/** Returns whether the handler of a screened call is declared brief. */
export const isBrief = ({ handler }: Call): boolean => handler?.brief === true

/** Returns whether `Server.read` may answer a screened call. */
export const readsFirst = ({ handler }: Call): boolean => handler?.screenCopy !== undefined

/** Returns whether a screened call is most likely answered at once. */
export const isQuick = (call: Call): boolean => isBrief(call) || readsFirst(call)
