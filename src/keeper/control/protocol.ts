import type { ChangedKeys, Reloaded } from '../process/events.ts'

/** The socket on which the host's daemon takes orders. */
export const CONTROL_SOCKET = '/run/intercede/control.sock'
/** The version; raise it when a request or an answer changes its meaning. */
export const CONTROL_VERSION = 2
/** In bytes. */
export const ORDER_LIMIT = 64 * 1024

/** Changes the policy of a container until the container ends. */
export interface SetRequest {
  readonly type: 'set'
  readonly container: string
  readonly serial: number
  /** Keys in their short form with their values. */
  readonly set: Readonly<Record<string, string>>
  /** Keys to unset. */
  readonly unset: readonly string[]
}

/** Applies the configuration and the program that the files now contain; or returns what would change. */
interface ReloadRequest {
  readonly type: 'reload'
  readonly dry: boolean
  /** Also if running containers lose their policy by it; by default not. */
  readonly force?: boolean | undefined
}

/** Notes who ends a container of `intercede run`. The client does that itself. */
interface StopRequest {
  readonly type: 'stop'
  readonly container: string
  readonly signal: 'SIGTERM' | 'SIGKILL'
}

export type ControlRequest = SetRequest | ReloadRequest | StopRequest

export interface SetAnswer {
  readonly changed: ChangedKeys
  /** What cannot work because of the change, or concerns its keys: a sentence with its remedy for each. */
  readonly warnings: readonly string[]
  /** Set while the engine has not said that it uses the change. */
  readonly isPending?: true
}

export interface ReloadAnswer extends Reloaded {
  /** How many containers are served. */
  readonly containers: number
}

/** What a request gives: of a stop, nothing. */
export type OrderAnswer = SetAnswer | ReloadAnswer | Readonly<Record<string, never>>

/** The outcome of a request. */
export type RequestOutcome = { readonly answer: OrderAnswer } | { readonly refusal: string }

/** The packet that carries the file of an answer. */
export const ANSWER = 'answer'

/** The answer is in a file whose descriptor is sent, because it may be longer than a packet. */
export type ControlAnswer = { readonly version: number } & RequestOutcome
