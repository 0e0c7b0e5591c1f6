import { rmSync } from 'node:fs'
import type { Fd } from '../kernel/fd.ts'
import { accept, peerCredentials, type SocketType } from '../kernel/socket.ts'
import { listenExclusively } from './listen.ts'
import type { Reactor } from './reactor.ts'

/** Somebody who has connected; closed once it has been heard, has gone wrong, or the door closes. */
export interface Guest extends Disposable {
  /**
   * Takes what it says, without blocking.
   *
   * @returns whether that was all
   * @throws {Error} that says what is wrong with it
   */
  hear(): boolean
}

export interface DoorOptions {
  readonly path: string
  readonly type: SocketType
  /** How many may be connected that have not said all yet. */
  readonly limit: number
  /** The socket that listens at `path` already, and goes on when we end. */
  readonly socket?: Fd | undefined
  /** Makes a guest of a connection, which it owns. */
  enter(connection: Fd): Guest
  refuse(message: string): void
}

/** A socket on which runtimes connect, for root only. Nobody is waited for: who says nothing keeps no one else waiting. */
export class Door {
  readonly #reactor: Reactor
  readonly #options: DoorOptions
  readonly #socket: Fd
  readonly #unwatch: () => void
  readonly #guests = new Map<Guest, () => void>()

  /** @throws {Error} if the socket is in use */
  constructor(reactor: Reactor, options: DoorOptions) {
    this.#reactor = reactor
    this.#options = options
    this.#socket = options.socket ?? listenExclusively(options.path, options.type)
    this.#unwatch = reactor.watch(this.#socket, () => this.#accept())
  }

  /** How many are connected that have not said all. */
  get size(): number {
    return this.#guests.size
  }

  close(): void {
    this.#unwatch()
    for (const guest of this.#guests.keys()) this.#dismiss(guest)
    if (!this.#options.socket) rmSync(this.#options.path, { force: true })
    this.#socket[Symbol.dispose]()
  }

  #accept(): void {
    for (let fd = accept(this.#socket); fd; fd = accept(this.#socket)) {
      const refusal = this.#refusal(fd)
      if (refusal === undefined) this.admit(this.#options.enter(fd), fd)
      else {
        fd[Symbol.dispose]()
        this.#options.refuse(`Cannot take the connection: ${refusal}`)
      }
    }
  }

  #refusal(fd: Fd): string | undefined {
    const { uid, pid } = peerCredentials(fd)
    const { limit } = this.#options
    if (uid !== 0) return `only root may hand over a listener, not user ${uid} (pid ${pid})`
    return this.#guests.size < limit ? undefined : `${limit} runtimes are connected already`
  }

  /** @param fd its connection */
  admit(guest: Guest, fd: Fd): void {
    const hear = (): void => {
      try {
        if (!guest.hear()) return
      } catch (error) {
        this.#options.refuse((error as Error).message)
      }
      this.#dismiss(guest)
    }
    this.#guests.set(guest, this.#reactor.watch(fd, hear))
  }

  #dismiss(guest: Guest): void {
    this.#guests.get(guest)?.()
    this.#guests.delete(guest)
    guest[Symbol.dispose]()
  }
}
