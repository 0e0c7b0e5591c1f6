import { deserialize, serialize } from 'node:v8'
import type { Container, ContainerHandles, ContainerNumbers } from '../caller/identity/container.ts'
import type { ReasonCode } from '../calls/reasons.ts'

/** Carries a mounter's socket and pidfd: the mounter outlives the engine that started it. */
interface MounterFds {
  readonly type: 'mounter'
}

/** Messages to the keeper about descriptors that the next engine gets. */
export type ForNextEngine =
  | MounterFds
  /** Carries the descriptors to store at `places`, see `PersistentState`, once the copies at `drops` are closed. */
  | {
      readonly type: 'keep'
      readonly places: readonly number[]
      readonly drops: readonly number[]
      readonly container: number
    }
  /** Carries a socket, which the keeper closes after it has closed its descriptors of `places`. */
  | { readonly type: 'drop'; readonly places: readonly number[] }

/**
 * Messages from the keeper to the engine; each is one packet of their SOCK_SEQPACKET socket. A new engine gets, in this
 * order: `kept` and `mounter` messages, `inherit`, all containers and listeners of the previous engine, `all`.
 */
export type ToEngine =
  /** Carries the descriptors that `handles` lists, in that order; none if the container's init is not known. */
  | {
      readonly type: 'container'
      readonly container: Container
      readonly walkable: boolean
      readonly handles: readonly (keyof ContainerHandles)[]
    }
  | { readonly type: 'forget'; readonly container: number }
  /** Changes a container's policy from now on; the answer is `policyHolds`. */
  | { readonly type: 'policy'; readonly container: ContainerNumbers; readonly said: PolicyPart }
  /** Carries the descriptors that the previous engine had stored at `places`. */
  | { readonly type: 'kept'; readonly places: readonly number[] }
  /** Says that the journal may have calls of the previous engine. `failed`: that engine did not end on purpose. */
  | { readonly type: 'inherit'; readonly failed: boolean }
  | { readonly type: 'all' }
  | MounterFds
  /** Carries the listener's descriptor. `by`: the process that has just handed it over, or 0. */
  | { readonly type: 'listener'; readonly listener: number; readonly container: number; readonly by: number }
  /** Carries the connection of a monitor of LXC, which forwards calls. */
  | { readonly type: 'monitor'; readonly listener: number; readonly container: number }

/** The part of a container that an administrator can change while the container runs, by `set` or a reload. */
export type PolicyPart = Pick<Container, 'policy' | 'ofUser' | 'barred'>

/** How a program in a container failed, and the end of its output, which is untrusted. */
export interface ProgramEnd {
  readonly program: string
  readonly reason: ReasonCode
  readonly words: string
}

/** Messages from the engine to the keeper. */
export type ToKeeper =
  | { readonly type: 'ready' }
  /** The last task under this listener's filter has ended, and the engine has closed its descriptor. */
  | { readonly type: 'gone'; readonly listener: number }
  /** From now on, calls are judged by the policy of that container's last `policy` message. */
  | { readonly type: 'policyHolds'; readonly container: ContainerNumbers }
  /** Since the last such message, calls of this container have waited for its other calls. */
  | { readonly type: 'waited'; readonly container: ContainerNumbers }
  /** The ring of records is half full: the keeper should read it now. */
  | { readonly type: 'halfFull' }
  | ForNextEngine
  /** A program that was started in a container did not do its work. */
  | ({ readonly type: 'program'; readonly container: ContainerNumbers } & ProgramEnd)
  | { readonly type: 'fault'; readonly message: string }

export const MESSAGE_LIMIT = 128 * 1024

export const encode = (message: ToEngine | ToKeeper): Buffer => serialize(message)
/** Decodes a message. Precondition: keeper or engine has encoded it; node:v8 is not safe for a container's bytes. */
export const decode = <T extends ToEngine | ToKeeper>(bytes: Uint8Array): T => deserialize(bytes) as T
