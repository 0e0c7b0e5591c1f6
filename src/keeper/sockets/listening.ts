import { now } from '../../kernel/clock.ts'
import { SyscallError } from '../../kernel/error.ts'
import { type Fd, guarded } from '../../kernel/fd.ts'
import { accept } from '../../kernel/socket.ts'
import type { KeptSocket, PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { listenExclusively, removeSocket } from './listen.ts'

/** Most connections that are accepted in a turn: whoever connects over and over shall cost little. */
const IN_A_TURN = 32
const TURN_MS = 10
/** Time without accepting after an error, such as a lack of descriptors. */
const REST_MS = 200

interface ListeningOptions {
  readonly reactor: Reactor
  readonly state: PersistedState
  /** As in `PersistedState`. */
  readonly name: string
  readonly path: string
  /** Takes ownership of a connection. */
  accepted(connection: Fd): void
}

/** A socket of packets on which anybody may connect whom its mode lets. */
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
      while (this.#mayAccept()) {
        const connection = accept(this.#socket.fd)
        if (!connection) return
        guarded(connection, () => this.#options.accepted(connection))
      }
      this.#pause(TURN_MS)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      this.#pause(REST_MS)
    }
  }

  #mayAccept(): boolean {
    const time = now()
    if (time - this.#turn.since > TURN_MS) this.#turn = { since: time, accepted: 0 }
    return this.#turn.accepted++ < IN_A_TURN
  }

  /** Stops watching for a while: the socket stays readable, so the reactor would call without end. */
  #pause(milliseconds: number): void {
    this.#unwatch()
    this.#rest = setTimeout(() => this.#watch(), milliseconds)
  }
}
