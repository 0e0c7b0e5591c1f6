import type { Fd } from '../../kernel/fd.ts'
import { peerCredentials, type SocketType } from '../../kernel/socket.ts'
import type { RefusalCause } from '../../memories/daemon-totals.ts'
import { AbandonedError } from '../../runtimes/handover.ts'
import { counted } from '../../shared/texts.ts'
import type { PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { Listening } from './listen.ts'

/** A connection of a runtime or monitor; disposed after its hand-over, an error, or the end of its acceptor. */
export interface Connection extends Disposable {
  /** True if a part of the hand-over has arrived. */
  readonly isMidway: boolean
  /**
   * Reads what has arrived, without blocking.
   *
   * @returns true after the end of the hand-over
   * @throws {Error} if the hand-over is invalid
   */
  hear(): boolean
}

/** Told why a hand-over was refused, in a sentence, and the id of its container if that is known. */
export type Refuse = (message: string, cause: RefusalCause | 'abandoned', id?: string) => void

export interface AcceptorOptions {
  readonly reactor: Reactor
  readonly state: PersistedState
  /** As in `PersistedState`. */
  readonly name: string
  readonly path: string
  readonly type: SocketType
  /** The most connections that have not handed over yet. */
  readonly limit: number
  /** Makes a connection, which owns `fd`. */
  enter(fd: Fd): Connection
  readonly refuse: Refuse
}

/** How many descriptors must be free before a connection is accepted: a hand-over keeps several. */
const ROOM = 16

/**
 * Accepts the connections of one socket, for root only, and reads each connection without blocking: a silent runtime
 * delays no other.
 *
 *   connection  event                              next       method
 *   silent      a part of the hand-over arrives    midway     hear
 *   silent,     its end arrives, or it is invalid  disposed   hear, #dismiss
 *   midway      the acceptor closes                disposed   close
 */
export class Acceptor {
  readonly #options: AcceptorOptions
  readonly #listening: Listening
  #limit: number
  readonly #connections = new Map<Connection, () => void>()

  /** @throws {Error} if the path is in use */
  constructor(options: AcceptorOptions) {
    this.#options = options
    this.#limit = options.limit
    this.#listening = new Listening({
      ...options,
      room: ROOM,
      accepted: (fd) => this.#take(fd),
      short: (why) => options.refuse(`Cannot accept connections until descriptors are free: ${why}`, 'limit'),
    })
  }

  /** @param limit as in `AcceptorOptions`; existing connections stay */
  set limit(limit: number) {
    this.#limit = limit
  }

  /** Number of connections that have not handed over. */
  get size(): number {
    return this.#connections.size
  }

  /** True if no connection is in the middle of its hand-over. */
  get isQuiet(): boolean {
    return [...this.#connections.keys()].every(({ isMidway }) => !isMidway)
  }

  close(): void {
    for (const connection of this.#connections.keys()) this.#dismiss(connection)
    this.#listening.close()
  }

  #take(fd: Fd): void {
    const refusal = this.#refusal(fd)
    if (refusal === undefined) this.admit(this.#options.enter(fd), fd)
    else {
      fd[Symbol.dispose]()
      this.#options.refuse(`Cannot take the connection: ${refusal.why}`, refusal.cause)
    }
  }

  #refusal(fd: Fd): { readonly cause: RefusalCause; readonly why: string } | undefined {
    const { uid, pid } = peerCredentials(fd)
    const limit = this.#limit
    if (uid !== 0) return { cause: 'notRoot', why: `only root may hand over a listener, not user ${uid} (pid ${pid})` }
    if (this.#connections.size < limit) return undefined
    return { cause: 'limit', why: `${counted(limit, 'runtime')} ${limit === 1 ? 'is' : 'are'} connected already` }
  }

  /** Reads a connection from now on. @param fd descriptor of the connection */
  admit(connection: Connection, fd: Fd): void {
    const hear = (): void => {
      try {
        if (!connection.hear()) return
      } catch (error) {
        const { message } = error as Error
        this.#options.refuse(message, error instanceof AbandonedError ? 'abandoned' : 'failed')
      }
      this.#dismiss(connection)
    }
    this.#connections.set(connection, this.#options.reactor.watch(fd, hear))
  }

  #dismiss(connection: Connection): void {
    this.#connections.get(connection)?.()
    this.#connections.delete(connection)
    connection[Symbol.dispose]()
  }
}
