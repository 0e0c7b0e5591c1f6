import { rmSync } from 'node:fs'
import { errnos } from '../../abi/errno.ts'
import { SyscallError } from '../../kernel/error.ts'
import { type Fd, guarded, requireDescriptors } from '../../kernel/fd.ts'
import { accept, peerCredentials, type SocketType } from '../../kernel/socket.ts'
import type { KeptSocket } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'

/** Somebody who has connected; closed once it has been heard, has gone wrong, or the door closes. */
export interface Connection extends Disposable {
  /** Has it said something, but not all? */
  readonly isMidway: boolean
  /**
   * Takes what it says, without blocking.
   *
   * @returns whether that was all
   * @throws {Error} that says what is wrong with it
   */
  hear(): boolean
}

export interface AcceptorOptions {
  readonly path: string
  readonly type: SocketType
  /** How many may be connected that have not said all yet. */
  readonly limit: number
  /** It listens at `path`; owned by the door. */
  readonly socket: KeptSocket
  /** Makes a guest of a connection, which it owns. */
  enter(connection: Fd): Connection
  refuse(message: string): void
}

/** So many descriptors must be free, or nobody is accepted: of what one hands over several are kept. */
const ROOM = 16
/** How long nobody is accepted then. */
const REST_MS = 200
const SHORTAGES: ReadonlySet<number> = new Set([errnos.EMFILE, errnos.ENFILE, errnos.ENOMEM])

/**
 * A socket on which runtimes connect, for root only. Nobody is waited for: who says nothing keeps no one else waiting. As
 * long as there are no descriptors for them they wait where the kernel keeps them.
 */
export class Acceptor {
  readonly #reactor: Reactor
  readonly #options: AcceptorOptions
  #unwatch: () => void = () => {}
  #rest: NodeJS.Timeout | undefined
  /** It has been said. */
  #isShort = false
  readonly #guests = new Map<Connection, () => void>()

  constructor(reactor: Reactor, options: AcceptorOptions) {
    this.#reactor = reactor
    this.#options = options
    this.#watch()
  }

  /** How many are connected that have not said all. */
  get size(): number {
    return this.#guests.size
  }

  /** Is nobody in the middle of what it has to say? */
  get isQuiet(): boolean {
    return [...this.#guests.keys()].every(({ isMidway }) => !isMidway)
  }

  close(): void {
    const { path, socket } = this.#options
    clearTimeout(this.#rest)
    this.#unwatch()
    for (const guest of this.#guests.keys()) this.#dismiss(guest)
    if (socket.isOurs) rmSync(path, { force: true })
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

  /** The socket stays readable: who watched it would never rest. */
  #wait({ message }: SyscallError): void {
    if (!this.#isShort) this.#options.refuse(`Cannot take connections until descriptors are free: ${message}`)
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
    const { limit } = this.#options
    if (uid !== 0) return `only root may hand over a listener, not user ${uid} (pid ${pid})`
    return this.#guests.size < limit ? undefined : `${limit} runtimes are connected already`
  }

  /** @param fd its connection */
  admit(guest: Connection, fd: Fd): void {
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

  #dismiss(guest: Connection): void {
    this.#guests.get(guest)?.()
    this.#guests.delete(guest)
    guest[Symbol.dispose]()
  }
}
