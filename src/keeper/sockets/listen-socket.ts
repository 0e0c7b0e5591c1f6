import { errnos } from '../../abi/errno.ts'
import { SyscallError } from '../../kernel/error.ts'
import { type Fd, guarded, requireDescriptors } from '../../kernel/fd.ts'
import { accept, peerCredentials, type SocketType } from '../../kernel/socket.ts'
import { counted } from '../../shared/texts.ts'
import type { KeptSocket } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { removeSocket } from './listen.ts'

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

export interface AcceptorOptions {
  readonly path: string
  readonly type: SocketType
  /** The most connections that have not handed over yet. */
  readonly limit: number
  /** The socket that listens at `path`; owned by the acceptor. */
  readonly socket: KeptSocket
  /** Makes a connection, which owns `fd`. */
  enter(fd: Fd): Connection
  refuse(message: string): void
}

/** How many descriptors must be free before a connection is accepted: a hand-over keeps several. */
const ROOM = 16
/** The pause in accepting while descriptors are short. */
const REST_MS = 200
const SHORTAGES: ReadonlySet<number> = new Set([errnos.EMFILE, errnos.ENFILE, errnos.ENOMEM])

/**
 * Accepts the connections of one socket, for root only, and reads each connection without blocking: a silent runtime
 * delays no other. While descriptors are short, connections wait in the kernel's queue.
 *
 *   socket      event                              next       method
 *   accepting   a connection                       accepting  #take: refused unless it is root's and within the limit
 *               fewer than ROOM descriptors free   resting    #wait
 *   resting     REST_MS are over                   accepting  #watch
 *
 *   connection  event                              next       method
 *   silent      a part of the hand-over arrives    midway     hear
 *   silent,     its end arrives, or it is invalid  disposed   hear, #dismiss
 *   midway      the acceptor closes                disposed   close
 */
export class Acceptor {
  readonly #reactor: Reactor
  readonly #options: AcceptorOptions
  #limit: number
  #unwatch: () => void = () => {}
  #rest: NodeJS.Timeout | undefined
  /** True once the shortage was reported. */
  #isShort = false
  readonly #connections = new Map<Connection, () => void>()

  constructor(reactor: Reactor, options: AcceptorOptions) {
    this.#reactor = reactor
    this.#options = options
    this.#limit = options.limit
    this.#watch()
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
    const { path, socket } = this.#options
    clearTimeout(this.#rest)
    this.#unwatch()
    for (const connection of this.#connections.keys()) this.#dismiss(connection)
    if (socket.isOurs) removeSocket(path)
    socket.fd[Symbol.dispose]()
  }

  #watch(): void {
    this.#unwatch = this.#reactor.watch(this.#options.socket.fd, () => this.#accept())
  }

  #accept(): void {
    try {
      for (let fd = this.#next(); fd; fd = this.#next()) this.#take(fd)
      this.#isShort = false
    } catch (error) {
      if (!(error instanceof SyscallError && SHORTAGES.has(error.errno))) throw error
      this.#wait(error)
    }
  }

  #next(): Fd | undefined {
    const { fd } = this.#options.socket
    requireDescriptors(fd, ROOM)
    return accept(fd)
  }

  /** Stops watching for a while: the socket stays readable, and the reactor would call endlessly. */
  #wait({ message }: SyscallError): void {
    if (!this.#isShort) this.#options.refuse(`Cannot accept connections until descriptors are free: ${message}`)
    this.#isShort = true
    this.#unwatch()
    this.#rest = setTimeout(() => this.#watch(), REST_MS)
  }

  #take(fd: Fd): void {
    const refusal = this.#refusal(fd)
    if (refusal === undefined)
      this.admit(
        guarded(fd, () => this.#options.enter(fd)),
        fd,
      )
    else {
      fd[Symbol.dispose]()
      this.#options.refuse(`Cannot take the connection: ${refusal}`)
    }
  }

  #refusal(fd: Fd): string | undefined {
    const { uid, pid } = peerCredentials(fd)
    const limit = this.#limit
    if (uid !== 0) return `only root may hand over a listener, not user ${uid} (pid ${pid})`
    return this.#connections.size < limit
      ? undefined
      : `${counted(limit, 'runtime')} ${limit === 1 ? 'is' : 'are'} connected already`
  }

  /** Reads a connection from now on. @param fd descriptor of the connection */
  admit(connection: Connection, fd: Fd): void {
    const hear = (): void => {
      try {
        if (!connection.hear()) return
      } catch (error) {
        this.#options.refuse((error as Error).message)
      }
      this.#dismiss(connection)
    }
    this.#connections.set(connection, this.#reactor.watch(fd, hear))
  }

  #dismiss(connection: Connection): void {
    this.#connections.get(connection)?.()
    this.#connections.delete(connection)
    connection[Symbol.dispose]()
  }
}
