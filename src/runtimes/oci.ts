import { readFileSync, readlinkSync } from 'node:fs'
import { orElse } from '../kernel/error.ts'
import { Fd, type Handle } from '../kernel/fd.ts'
import { peerCredentials, receive } from '../kernel/socket.ts'
import { AbandonedError, type Handover, parseHandover } from './handover.ts'

/** Names the process that connected, as it is now: later the process may have ended, and its name is gone. */
function peerName(connection: Handle): string {
  const { pid, uid } = peerCredentials(connection)
  return `${commandOf(pid) ?? 'a process'} (pid ${pid}, uid ${uid})`
}

/**
 * The name of a process in quotes, since the process itself chooses it.
 *
 * @returns undefined if it has ended, or is in another pid namespace, where its number is 0 for us
 */
const commandOf = (pid: number): string | undefined =>
  orElse(undefined, () => JSON.stringify(readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd()))

/** Tells whether the numbers of processes are the same for the process that connected: if it has ended, they may be. */
const sharesNumbers = (connection: Handle): boolean =>
  orElse(
    true,
    () => readlinkSync(`/proc/${peerCredentials(connection).pid}/ns/pid`) === readlinkSync('/proc/self/ns/pid'),
  )

/** Maximum size of a state in bytes, far above what runtimes send: a state with long annotations is a few KiB. */
const BYTES_LIMIT = 1024 * 1024
const FDS_LIMIT = 16
const CHUNK = 64 * 1024

/** The complete hand-over; undefined while the client has not sent everything. */
type Progress = { readonly handover: Handover; readonly listener: Fd } | undefined

/**
 * One connection of the OCI seccomp agent protocol. crun connects when it creates a container and may be silent until
 * the container is started, so reading must not block. The state may come in pieces, the descriptors with the first.
 * It is complete when it is valid JSON, or when the client closes: `crun run` keeps the connection open until the
 * container ends, so waiting for the end of the stream would hang the container's first trapped call.
 */
export class OciConnection implements Disposable {
  readonly fd: Fd
  readonly #client: string
  readonly #sharesNumbers: boolean
  readonly #chunks: Buffer[] = []
  readonly #fds: Fd[] = []
  #bytes = 0

  constructor(fd: Fd) {
    this.fd = fd
    this.#client = peerName(fd)
    this.#sharesNumbers = sharesNumbers(fd)
  }

  /**
   * Reads what has arrived, without blocking.
   *
   * @returns the hand-over once the state is complete; the caller owns the listener then
   * @throws {Error} if the client breaks the protocol; the caller must then dispose of the connection
   */
  read(): Progress {
    const chunk = Buffer.allocUnsafe(CHUNK)
    for (let message = receive(this.fd, chunk); message; message = receive(this.fd, chunk)) {
      this.#fds.push(...message.fds)
      if (message.truncated || this.#fds.length > FDS_LIMIT)
        throw new Error(`Cannot take descriptors: more than ${FDS_LIMIT}`)
      if (message.length === 0) return this.#finish()
      this.#bytes += message.length
      if (this.#bytes > BYTES_LIMIT)
        throw new Error(`Cannot take container process state: more than ${BYTES_LIMIT} bytes`)
      this.#chunks.push(Buffer.from(chunk.subarray(0, message.length)))
    }
    return this.#isComplete ? this.#finish() : undefined
  }

  /** True if the client has sent something. */
  get isMidway(): boolean {
    return this.#bytes > 0
  }

  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]()
    for (const fd of this.#fds) fd[Symbol.dispose]()
  }

  get #isComplete(): boolean {
    if (!this.#chunks.at(-1)?.toString('latin1').trimEnd().endsWith('}')) return false
    return orElse(false, () => JSON.parse(this.#text) !== undefined)
  }

  get #text(): string {
    return Buffer.concat(this.#chunks).toString()
  }

  #finish(): Progress {
    if (this.#bytes === 0) throw new AbandonedError(`${this.#client} connected and ended without a hand-over`)
    const { handover, fd } = parseHandover(this.#text)
    const listener = this.#fds[fd]
    if (!listener) throw new Error(`Cannot take the listener of ${handover.id}: its descriptor did not come`)
    const seen = this.#sharesNumbers ? handover : { ...handover, pid: 0 }
    return { handover: seen, listener: new Fd(listener.release()) }
  }
}
