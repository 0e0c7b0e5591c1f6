import { deserialize, serialize } from 'node:v8'
import type { Container, ContainerHandles } from '../../caller/identity/container.ts'
import type { ReasonCode } from '../../calls/reason.ts'

/** With the socket of a mounter and its pidfd: it outlives the engine that has started it. */
interface MounterFds {
  readonly type: 'mounter'
}

/** What goes from one engine to the next. */
export type ToEngineHandover =
  | MounterFds
  /** With the descriptor: see `PersistentState`. */
  | { readonly type: 'keep'; readonly place: number; readonly container: number }
  /** With a socket that is closed when they are. */
  | { readonly type: 'drop'; readonly places: readonly number[] }

/** What the keeper tells the engine; each message is one packet of their socket. */
export type ToEngine =
  /** With the descriptors that `handles` names, in its order; none if the init was not seen. */
  | {
      readonly type: 'container'
      readonly container: Container
      readonly walkable: boolean
      readonly handles: readonly (keyof ContainerHandles)[]
    }
  | { readonly type: 'forget'; readonly container: number }
  /** With the descriptors: what an engine before this one has left. Comes before all others. */
  | { readonly type: 'kept'; readonly places: readonly number[] }
  /**
   * Comes next. The journal may hold calls of an engine before this one: what is handed over until `all` is what that had,
   * too. `failed`: it ended by itself, not by somebody's will.
   */
  | { readonly type: 'inherit'; readonly failed: boolean }
  | { readonly type: 'all' }
  | MounterFds
  /** With the listener's descriptor. */
  | { readonly type: 'listener'; readonly listener: number; readonly container: number }
  /** With the connection of a monitor of LXC, which forwards calls. */
  | { readonly type: 'monitor'; readonly listener: number; readonly container: number }

/** How a program of a container failed, and what it said last, which the container may have chosen. */
export interface ProgramEnd {
  readonly program: string
  readonly reason: ReasonCode
  readonly words: string
}

/** What the engine tells the keeper. */
export type ToKeeper =
  | { readonly type: 'ready'; readonly threads: number }
  /** The last task of this listener has ended: its descriptor is closed here. */
  | { readonly type: 'gone'; readonly listener: number }
  /** Calls of this container have waited for others of it, since the last time that this was said. */
  | { readonly type: 'waited'; readonly container: number }
  /** The ring of records is half full: read it now. */
  | { readonly type: 'halfFull' }
  | ToEngineHandover
  /** A program that was started in a container did not do its work. */
  | ({ readonly type: 'program'; readonly container: number } & ProgramEnd)
  | { readonly type: 'fault'; readonly message: string }

export const MESSAGE_LIMIT = 128 * 1024

export const encode = (message: ToEngine | ToKeeper): Buffer => serialize(message)
/** Only for bytes of the other half of our own program: never for a container's. */
export const decode = <T extends ToEngine | ToKeeper>(bytes: Uint8Array): T => deserialize(bytes) as T
