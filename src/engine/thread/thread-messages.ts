import type { Dev, Tid } from '../../abi/brand.ts'
import type { Container } from '../../caller/identity/container.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import type { ExecRequest } from '../execs/exec-job.ts'
import type { GroupsToJoin } from '../facts/probe-device-rules.ts'

/** Given to each thread of the pool at its start. All descriptors are the process's and stay open. */
export interface ThreadData {
  readonly build: string
  readonly number: number
  readonly state: SharedArrayBuffer
  readonly journal: number
  /** The memory of `PersistentState`. */
  readonly persistent: number
  /** The socket to the keeper. */
  readonly control: number
  readonly epoll: number
  /** A timerfd: see `Leadership`. */
  readonly alarm: number
  /** Readable: see `InheritedCalls`. */
  readonly orphans: number
  readonly hostRoot: number
  readonly proc: number
  /** Our own mount namespace. */
  readonly mounts: number
  /** Our own /proc/self/fd. */
  readonly descriptors: number
  /** How many calls of all containers may be in flight. */
  readonly calls: number
  /** How many threads may work at once before it only costs time. */
  readonly processors: number
  /** How many calls of one container may be in flight. */
  readonly callsPerContainer: number
}

/** From the main thread: what a container is now, or that it is gone. */
export type ToThread = { readonly container: Container } | { readonly forget: number }

/** For `HelperRequests`. */
export type HelperRequest =
  /** Try what these control groups allow; the answer is a word of `DeviceRulesCache`. */
  | {
      readonly type: 'device'
      readonly tid: Tid
      readonly dev: Dev
      readonly groups: GroupsToJoin
      readonly answer: SharedArrayBuffer
    }
  /** Lend me a mounter; the answer is its socket, or -1. */
  | { readonly type: 'lend'; readonly container: number; readonly answer: SharedArrayBuffer }
  | { readonly type: 'giveBack'; readonly socket: number; readonly lost: boolean }
  /** Start a program in a container. */
  | ({ readonly type: 'exec'; readonly container: number } & ExecRequest)
  /** Nobody looks at that program any more. */
  | { readonly type: 'execOver'; readonly job: string; readonly failed: ReasonCode | undefined }
  | { readonly type: 'context' }
  | { readonly type: 'walker'; readonly container: number }
  | { readonly type: 'walkerStuck'; readonly container: number; readonly walker: number }

/** What is not about the thread that says it. */
export type MainRequest =
  | HelperRequest
  | { readonly type: 'gone'; readonly index: number; readonly generation: number }
  | { readonly type: 'unmute'; readonly container: number }
  | { readonly type: 'halfFull' }

/** To the main thread; all off the path of a call. */
export type FromThread =
  | MainRequest
  | { readonly type: 'ready' | 'grow' }
  | { readonly type: 'lost' | 'failed' | 'fault'; readonly message: string }
