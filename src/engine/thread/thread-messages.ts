import type { Tid, TypedDev } from '../../abi/brand.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { MounterState } from '../../caller/mounts/mounter-client.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { ExecRequest } from '../execs/exec-job.ts'

/** The data that each thread of the pool gets at its start. Its descriptors stay open for the life of the process. */
export interface ThreadData {
  readonly build: string
  readonly number: number
  readonly state: SharedArrayBuffer
  readonly journal: number
  /** The ring of records. */
  readonly records: number
  /** The memory of `CountWriter`. */
  readonly counts: number
  /** How much of the arguments of calls is recorded. */
  readonly arguments: ArgumentMode
  /** The memory of `PersistentState`. */
  readonly persistent: number
  /** The socket to the keeper. */
  readonly control: number
  readonly epoll: number
  /** The timerfd of `Leadership`. */
  readonly alarm: number
  /** A descriptor that is always readable: see `InheritedCalls`. */
  readonly inheritedReady: number
  readonly hostRoot: number
  readonly proc: number
  /** Our own mount namespace. */
  readonly mounts: number
  /** Our own /proc/self/fd. */
  readonly descriptors: number
  /** How many calls of all containers may be served at once. */
  readonly calls: number
  /** How many threads may work at once; more only cost time. */
  readonly processors: number
  /** How many calls of one container may be in flight. */
  readonly callsPerContainer: number
}

/** Messages from the main thread: a new or changed container, or the number of a container that is gone. */
export type ToThread = { readonly container: Container } | { readonly forget: number }

/** Requests to `HelperRequests`. */
export type HelperRequest =
  /** Asks what these control groups allow with `dev`; the answer is a word of `DeviceRulesCache`. */
  | {
      readonly type: 'device'
      readonly container: number
      readonly tid: Tid
      readonly dev: TypedDev
      readonly groups: string
      readonly answer: SharedArrayBuffer
    }
  /** Asks for a mounter for a container; the answer is its socket, or -1. */
  | {
      readonly type: 'lend'
      readonly container: number
      readonly serial: number
      readonly answer: SharedArrayBuffer
    }
  | { readonly type: 'giveBack'; readonly socket: number; readonly state: MounterState }
  /** Asks for the start of a program in a container. */
  | ({ readonly type: 'exec'; readonly container: number } & ExecRequest)
  /** Ends a job: the thread does not wait for the program any more. `failed`: the program is to be killed. */
  | {
      readonly type: 'execOver'
      readonly container: number
      readonly job: string
      readonly failed: ReasonCode | undefined
    }
  | { readonly type: 'context' }
  /** Asks to close descriptors whose close may hang. */
  | { readonly type: 'discard'; readonly raws: readonly number[] }
  | { readonly type: 'walker'; readonly container: number }
  /** A walker did not answer. `hasEnded`: it is no more. */
  | { readonly type: 'walkerStuck'; readonly container: number; readonly walker: number; readonly hasEnded: boolean }

/** Requests that do not depend on the sending thread. */
export type MainRequest =
  | HelperRequest
  | { readonly type: 'gone'; readonly index: number; readonly generation: number }
  | { readonly type: 'unmute'; readonly container: number }
  | { readonly type: 'halfFull' }

/** Messages to the main thread; a call waits for the main thread only if it needs a helper. */
export type FromThread =
  | MainRequest
  | { readonly type: 'ready' | 'grow' }
  | { readonly type: 'lost' | 'failed' | 'fault'; readonly message: string }
