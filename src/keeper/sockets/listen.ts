import { chmodSync, chownSync, fstatSync, lstatSync, mkdirSync, openSync, rmSync, type Stats, statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { O_NOFOLLOW, O_PATH } from '../../abi/fcntl.ts'
import { now } from '../../kernel/clock.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import { Fd, guarded, requireDescriptors } from '../../kernel/fd.ts'
import { accept, connectUnix, listenUnix, type SocketType } from '../../kernel/socket.ts'
import type { KeptSocket, PersistedState } from '../persist/persisted-state.ts'
import type { Reactor } from '../process/reactor.ts'

/** The name of the default socket directory, which we make: /run is empty after each boot. */
const USUAL = 'intercede'

/**
 * Listens at `path`, for root only, and removes the socket file of a daemon that was killed.
 *
 * @throws {Error} if another file is there, or the socket of a daemon that still answers
 */
export function listenExclusively(path: string, type: SocketType = 'stream'): Fd {
  const refuse = (why: string): Error => new Error(`Cannot listen on "${path}": ${why}, or name another path`)
  requireDirectory(dirname(path), refuse)
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there && !there.isSocket()) throw refuse('it exists and is not a socket; move it away')
  if (there && answers(path, type))
    throw refuse('another intercede serves it, or its service when somebody asks; reload or stop that')
  if (there && !isOurs(there)) throw refuse(`the socket that is there belongs to user ${there.uid}; remove it`)
  // So nobody else can ever connect, and no mode has to be changed by name.
  const before = process.umask(0o177)
  try {
    rmSync(path, { force: true })
    return listenUnix(path, type)
  } catch (error) {
    throw refuse(`${(error as Error).message}; let root write to its directory`)
  } finally {
    process.umask(before)
  }
}

const isOurs = (stat: Stats): boolean => stat.isSocket() && stat.uid === process.geteuid?.()

/** Removes our socket file at `path`; any other file stays. */
export function removeSocket(path: string): void {
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there && isOurs(there)) rmSync(path, { force: true })
}

/**
 * Lets a group connect to our socket at `path`. Another user may have put a link to any file there since then, so this
 * changes the mode of an open socket.
 *
 * @throws {Error} of node:fs
 */
export function shareSocket(path: string, gid: number): void {
  using file = new Fd(openSync(path, O_PATH | O_NOFOLLOW))
  if (!isOurs(fstatSync(file.raw))) return
  chownSync(`/proc/self/fd/${file.raw}`, 0, gid)
  chmodSync(`/proc/self/fd/${file.raw}`, 0o660)
}

/** Makes the default directory. Another missing directory may be a typing error, and would stay for ever. */
function requireDirectory(directory: string, refuse: (why: string) => Error): void {
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return
  if (basename(directory) !== USUAL) throw refuse(`"${directory}" is not a directory; make it first`)
  try {
    mkdirSync(directory)
    // Whatever mask we were started with: those who may use a socket must get there.
    chmodSync(directory, 0o711)
  } catch (error) {
    throw refuse(`${(error as Error).message}; make its directory`)
  }
}

function answers(path: string, type: SocketType): boolean {
  try {
    connectUnix(path, type)[Symbol.dispose]()
    return true
  } catch (error) {
    if (isErrno(error, 'ECONNREFUSED')) return false
    // A process listens there, for connections of another type.
    if (isErrno(error, 'EPROTOTYPE')) return true
    throw error
  }
}

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
  readonly type: SocketType
  /**
   * The most connections in a period, on sockets that not only root may connect to, so that repeated connections cost
   * little.
   */
  readonly atMost?: number
  /** How many descriptors must be free before a connection is accepted. */
  readonly room?: number
  /** Takes ownership of a connection. */
  accepted(connection: Fd): void
  /** Told why connections wait in the kernel's queue, once until all of them are accepted. */
  short?(why: string): void
}

/**
 * A socket to which everybody may connect whom its mode allows.
 *
 *   state       event                                next       method
 *   accepting   a connection                         accepting  #accept
 *               `atMost` of a period were accepted   resting    #pause
 *               fewer than `room` descriptors free   resting    #pause: connections wait in the kernel's queue
 *   resting     TURN_MS or REST_MS are over          accepting  #watch
 */
export class Listening {
  readonly #options: ListeningOptions
  readonly #socket: KeptSocket
  #unwatch: () => void = () => {}
  #rest: NodeJS.Timeout | undefined
  #turn = { since: 0, accepted: 0 }
  /** True once the shortage was reported. */
  #isShort = false

  /** @throws {Error} if the path is in use */
  constructor(options: ListeningOptions) {
    const { state, name, path, type } = options
    this.#options = options
    this.#socket = state.socket(name) ?? state.keepSocket(name, listenExclusively(path, type))
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
        const connection = this.#next()
        if (!connection) break
        guarded(connection, () => this.#options.accepted(connection))
      }
      this.#isShort = false
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      if (!this.#isShort) this.#options.short?.(error.message)
      this.#isShort = true
      this.#pause(REST_MS)
    }
  }

  #next(): Fd | undefined {
    const { fd } = this.#socket
    requireDescriptors(fd, this.#options.room ?? 0)
    return accept(fd)
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
