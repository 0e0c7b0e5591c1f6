import type { ChildProcess } from 'node:child_process'
import { decode, encode, MESSAGE_LIMIT, type ToEngine, type ToKeeper } from '../engine/messages.ts'
import { type EngineOptions, startEngine } from '../engine/start.ts'
import type { Handle } from '../kernel/handle.ts'
import { type Message, receive, send, socketpair } from '../kernel/socket.ts'
import type { Reactor } from './reactor.ts'

/** The engine ends by itself when its socket is closed; this is for one that cannot. */
const GRACE_MS = 500

/** An engine that ended with something of ours unread (ECONNRESET) ended all the same. */
function take(socket: Handle, bytes: Uint8Array): Message | 'over' | undefined {
  try {
    return receive(socket, bytes)
  } catch {
    return 'over'
  }
}

/** The keeper's end of the engine: its process and the socket to it. */
export class EngineLink {
  readonly #child: ChildProcess
  readonly #socket: Handle & Disposable
  readonly #unwatch: () => void
  #closing = false

  /** @param ended called once if the engine ends by itself */
  constructor(
    reactor: Reactor,
    journal: Handle,
    options: Omit<EngineOptions, 'build'>,
    hear: (message: ToKeeper) => void,
    ended: (how: string) => void,
  ) {
    const [ours, theirs] = socketpair()
    this.#socket = ours
    this.#child = startEngine(theirs, journal, options)
    theirs[Symbol.dispose]()
    const bytes = new Uint8Array(MESSAGE_LIMIT)
    this.#unwatch = reactor.watch(ours, () => {
      for (let message = take(ours, bytes); message; message = take(ours, bytes)) {
        if (message === 'over' || message.length === 0) return this.#unwatch()
        hear(decode(bytes.subarray(0, message.length)))
      }
    })
    this.#child.on('exit', (status, signal) => {
      if (!this.#closing) ended(signal ? `was ended by ${signal}` : `ended with status ${status}`)
    })
    this.#child.on('error', (error) => ended(`could not be started: ${error.message}`))
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  tell(message: ToEngine, fds: readonly Handle[] = []): void {
    send(this.#socket, encode(message), fds)
  }

  /** Ends the engine, also while threads of it are stuck: it lets its descriptors go, and the kernel answers (ENOSYS). */
  close(): void {
    this.#closing = true
    this.#unwatch()
    this.#socket[Symbol.dispose]()
    setTimeout(() => this.#child.kill('SIGKILL'), GRACE_MS).unref()
  }
}
