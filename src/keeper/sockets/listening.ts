import { now } from '../../kernel/clock.ts'
import { SyscallError } from '../../kernel/error.ts'
import { type Fd, guarded } from '../../kernel/fd.ts'
import { accept } from '../../kernel/socket.ts'
import type { KeptSocket, PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { listenExclusively, removeSocket } from './listen.ts'

/** How many connections are accepted in a row, before other work has its turn. */
const IN_A_ROW = 64
/** The period for which `atMost` limits the accepted connections. */
const TURN_MS = 10
/** The pause in accepting after an error, such as a shortage of descriptors. */
const REST_MS = 200

interface ListeningOptions {
  readonly reactor: Reactor
  readonly state: PersistedState
  /** As in `PersistedState`. */
  readonly name: string
  readonly path: string
  /**
   * The most connections in a period, on sockets that not only root may connect to, so that repeated connections cost
   * little.
   */
  readonly atMost?: number
  /** Takes ownership of a connection. */
  accepted(connection: Fd): void
}

/** A packet socket to which everybody may connect whom its mode allows. */
export class Listening {
  readonly #options: ListeningOptions
  readonly #socket: KeptSocket
  #unwatch: () => void = () => {}
  #rest: NodeJS.Timeout | undefined
  #turn = { since: 0, accepted: 0 }

  /** @throws {Error} if the path is in use */
  constructor(options: ListeningOptions) {
    const { state, name, path } = options
    this.#options = options
    this.#socket = state.socket(name) ?? state.keepSocket(name, listenExclusively(path, 'packet'))
    this.#watch()
  }

  close(): void {
    clearTimeout(this.#rest)
    this.#unwatch()
    if (this.#socket.isOurs) removeSocket(this.#options.path)
    this.#socket.fd[Symbol.dispose]()
  }

  #watch(): void {
    this.#unwatch = this.#options.reactor.watch(this.#socket.fd, () => this.#accept())
  }

  #accept(): void {
    try {
      for (let count = 0; count < IN_A_ROW; count++) {
        if (!this.#mayAccept()) {
          this.#pause(TURN_MS)
          return
        }
        const connection = accept(this.#socket.fd)
        if (!connection) return
        guarded(connection, () => this.#options.accepted(connection))
      }
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      this.#pause(REST_MS)
    }
  }

  #mayAccept(): boolean {
    const time = now()
    if (time - this.#turn.since > TURN_MS) this.#turn = { since: time, accepted: 0 }
    return this.#turn.accepted++ < (this.#options.atMost ?? Number.POSITIVE_INFINITY)
  }

  /** Stops watching for a while: the socket stays readable, and the reactor would call endlessly. */
  #pause(milliseconds: number): void {
    this.#unwatch()
    this.#rest = setTimeout(() => this.#watch(), milliseconds)
  }
}
