import type { ChangedKeys } from '../process/events.ts'

/** Where the daemon of the host takes orders. */
export const CONTROL_SOCKET = '/run/intercede/control.sock'
/** Raised when a request or an answer changes its meaning. */
export const CONTROL_VERSION = 1
/** In bytes. */
export const ORDER_LIMIT = 64 * 1024

/** Changes the policy of a container until the container ends. */
export interface SetRequest {
  readonly type: 'set'
  readonly container: string
  readonly serial: number
  /** Keys in their short form with their values. */
  readonly set: Readonly<Record<string, string>>
  /** Keys that are no longer to be set. */
  readonly unset: readonly string[]
}

/** Reads the configuration again, and goes on as the program that the files are now; or says what would change. */
export interface ReloadRequest {
  readonly type: 'reload'
  readonly dry: boolean
}

export type ControlRequest = SetRequest | ReloadRequest

export interface SetAnswer {
  readonly changed: ChangedKeys
  /** What the change has caused that cannot work, or is about its keys: a sentence with its remedy for each. */
  readonly warnings: readonly string[]
}

export interface ReloadAnswer {
  /** How many containers are served. */
  readonly containers: number
  readonly changed: readonly { readonly container: string; readonly keys: ChangedKeys }[]
}

/** What becomes of a request. */
export type RequestOutcome = { readonly answer: SetAnswer | ReloadAnswer } | { readonly refusal: string }

/** The packet that carries the file of an answer. */
export const ANSWER = 'answer'

/** The answer lies in a file, whose descriptor is sent: it may be longer than a packet. */
export type ControlAnswer = { readonly version: number } & RequestOutcome
