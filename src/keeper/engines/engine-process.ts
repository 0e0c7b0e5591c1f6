import type { ChildProcess } from 'node:child_process'
import { errnos } from '../../abi/errno.ts'
import { decode, encode, MESSAGE_LIMIT, type ToEngine, type ToKeeper } from '../../engine/protocol/messages.ts'
import { type EngineOptions, type SharedMemories, spawnEngine } from '../../engine/protocol/spawn-engine.ts'
import { SyscallError } from '../../kernel/error.ts'
import { type Fd, FdClosed } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { isDefunct } from '../../kernel/process.ts'
import { type Message, MSG_DONTWAIT, receive, send, socketpair } from '../../kernel/socket.ts'
import type { Reactor } from '../process/reactor.ts'

/** The engine ends by itself when its socket is closed; this is for one that cannot. */
const GRACE_MS = 500
/** How long an engine whose first thread is gone has to be gone as a whole. */
const REAP_MS = 20
/** When the queue of the socket is full: an engine that starts reads nothing yet. */
const RETRY_MS = 5

/**
 * That an engine ended with something of ours unread is told first, once, and instead of what it had said before
 * (ECONNRESET): net/core/datagram.c __skb_try_recv_datagram().
 */
function take(socket: Handle, bytes: Uint8Array): Message | 'over' | undefined {
  for (let tries = 0; tries < 2; tries++) {
    try {
      return receive(socket, bytes)
    } catch {
      // What it said is still there.
    }
  }
  return 'over'
}

export interface EngineListener {
  /** @param fds owned by whoever hears it */
  hear(message: ToKeeper, fds: readonly Fd[]): void
  /** Called once if the engine ends by itself. @param failed not by somebody's will */
  ended(how: string, failed: boolean): void
}

/** The keeper's end of one engine: its process and the socket to it. */
export class EngineProcess {
  readonly #child: ChildProcess
  readonly #socket: Fd
  readonly #listener: EngineListener
  readonly #unwatch: () => void
  readonly #bytes = new Uint8Array(MESSAGE_LIMIT)
  readonly #queue: { readonly bytes: Uint8Array; readonly fds: readonly Handle[] }[] = []
  #isOver = false

  constructor(
    reactor: Reactor,
    memories: SharedMemories,
    options: Omit<EngineOptions, 'build'>,
    listener: EngineListener,
  ) {
    const [ours, theirs] = socketpair()
    this.#socket = ours
    this.#listener = listener
    this.#child = spawnEngine(theirs, memories, options)
    theirs[Symbol.dispose]()
    this.#unwatch = reactor.watch(ours, () => this.#hear())
    this.#child.on('exit', (status, signal) => {
      this.#end(signal ? `was ended by ${signal}` : `ended with status ${status}`, signal !== 'SIGKILL')
    })
    this.#child.on('error', (error) => this.#end(`could not be started: ${error.message}`, true))
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Never blocks: what the socket does not take now is sent later, unless one of `fds` is closed by then. */
  tell(message: ToEngine, fds: readonly Handle[] = []): void {
    if (this.#isOver) return
    this.#queue.push({ bytes: encode(message), fds })
    if (this.#queue.length === 1) this.#flush()
  }

  /** Ends it, as somebody might: it is replaced then. It cannot be in the middle of anything that another one would not settle. */
  kill(): void {
    this.#child.kill('SIGKILL')
    this.#lookSoon()
  }

  /** Ends the engine for good, also while threads of it are stuck: it lets its descriptors go, and the kernel answers (ENOSYS). */
  close(): void {
    if (this.#isOver) return
    this.#release()
    setTimeout(() => this.#child.kill('SIGKILL'), GRACE_MS).unref()
  }

  /**
   * Has it ended? To be called once in a while: a thread that hangs in a file system of a container outlives SIGKILL, and with it
   * the process, so that nobody reports its end. But its first thread is gone, and no other one will ever run again. (A pidfd of
   * the first thread tells that only up to Linux 6.15.)
   */
  look(): void {
    const { pid } = this.#child
    if (this.#isOver || pid === undefined || !isDefunct(pid)) return
    setTimeout(() => this.#end('has ended, but for threads that hang', false), REAP_MS)
  }

  #lookSoon(): void {
    if (this.#isOver) return
    this.look()
    setTimeout(() => this.#lookSoon(), REAP_MS)
  }

  #flush(): void {
    while (!this.#isOver && this.#queue.length > 0) {
      const { bytes, fds } = this.#queue[0]!
      if (!this.#send(bytes, fds)) {
        setTimeout(() => this.#flush(), RETRY_MS)
        return
      }
      this.#queue.shift()
    }
  }

  /** @returns false if there is no room now; what an engine that has ended does not get, the next one gets */
  #send(bytes: Uint8Array, fds: readonly Handle[]): boolean {
    try {
      send(this.#socket, bytes, fds, MSG_DONTWAIT)
      return true
    } catch (error) {
      // What was let go in between is not there any more.
      if (error instanceof FdClosed) return true
      if (!(error instanceof SyscallError)) throw error
      if (error.errno === errnos.EAGAIN || error.errno === errnos.ETOOMANYREFS) return false
      if (error.errno === errnos.EPIPE || error.errno === errnos.ECONNRESET) return true
      throw error
    }
  }

  #hear(): void {
    for (let message = take(this.#socket, this.#bytes); message; message = take(this.#socket, this.#bytes)) {
      if (message === 'over' || message.length === 0) {
        this.#unwatch()
        return
      }
      this.#listener.hear(decode(this.#bytes.subarray(0, message.length)), message.fds)
      if (this.#isOver) return
    }
  }

  /** What it said before is heard first. */
  #end(how: string, failed: boolean): void {
    if (this.#isOver) return
    this.#hear()
    if (this.#isOver) return
    this.#release()
    this.#listener.ended(how, failed)
  }

  #release(): void {
    this.#isOver = true
    this.#queue.length = 0
    this.#unwatch()
    this.#socket[Symbol.dispose]()
  }
}
