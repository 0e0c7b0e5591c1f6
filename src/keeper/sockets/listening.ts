import { rmSync } from 'node:fs'
import { SyscallError } from '../../kernel/error.ts'
import { type Fd, guarded } from '../../kernel/fd.ts'
import { accept } from '../../kernel/socket.ts'
import type { KeptSocket, PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'
import { listenExclusively } from './listen.ts'

/** How many connections are accepted in a row, before others have their turn. */
const IN_A_ROW = 64
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
    if (this.#socket.isOurs) rmSync(this.#options.path, { force: true })
    this.#socket.fd[Symbol.dispose]()
  }

  #watch(): void {
    this.#unwatch = this.#options.reactor.watch(this.#socket.fd, () => this.#accept())
  }

  #accept(): void {
    try {
      for (let count = 0; count < IN_A_ROW; count++) {
        const connection = accept(this.#socket.fd)
        if (!connection) return
        guarded(connection, () => this.#options.accepted(connection))
      }
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      this.#unwatch()
      this.#rest = setTimeout(() => this.#watch(), REST_MS)
    }
  }
}
