import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { processTime } from '../../kernel/clock.ts'
import { ignoring, isErrno } from '../../kernel/error.ts'
import { type Fd, FdClosed, guarded, type Handle } from '../../kernel/fd.ts'
import { pidfdOpen, releaseMemory } from '../../kernel/pidfd.ts'
import { type Ending, isDefunct } from '../../kernel/process.ts'
import { type Message, receive, send, socketpair } from '../../kernel/socket.ts'
import { decode, encode, MESSAGE_LIMIT, type ToEngine, type ToKeeper } from '../../link/messages.ts'
import { type EngineOptions, type SharedMemories, spawnEngine } from '../../link/spawn-engine.ts'
import type { RestartCause } from '../../memories/daemon-totals.ts'
import { type Child, howEnded, wasKilled } from '../../processes/child.ts'
import type { Reactor } from '../process/reactor.ts'

/** How long an engine may take to end by itself after its socket was closed, before it is killed. */
const GRACE_MS = 500
/** How long an engine may take to end completely, once its first thread is gone. */
const REAP_MS = 20
/** Interval of attempts to send while the socket is full: an engine that is starting does not read yet. */
const RETRY_MS = 5

/**
 * Receives one message. If the engine has ended with messages of ours unread, the first attempt fails with ECONNRESET,
 * before the engine's last messages are received; hence two attempts.
 *
 * @returns 'over' if the socket has failed twice; undefined if there is no message now
 * @see net/core/datagram.c __skb_try_recv_datagram()
 */
function take(socket: Handle, bytes: Uint8Array): Message | 'over' | undefined {
  for (let tries = 0; tries < 2; tries++) {
    try {
      return receive(socket, bytes)
    } catch {
      // The engine's messages are still there.
    }
  }
  return 'over'
}

export interface EngineCallbacks {
  /** Takes a message of the engine and owns its descriptors. */
  hear(message: ToKeeper, fds: readonly Fd[]): void
  /** Called once if the engine ends before `close`. @param how in words */
  ended(how: string, cause: RestartCause): void
}

/** A tenth of the service's memory: the OOM killer ends the engine even if the keeper is larger by that. */
const ENGINE_OOM_SCORE = 100
const causeOf = (ending: Ending): RestartCause =>
  'status' in ending ? 'failed' : wasKilled(ending) ? 'killed' : 'crashed'

/** One engine as the keeper sees it: the process and our end of its socket. */
export class EngineProcess {
  readonly #child: Child
  readonly #socket: Fd
  readonly #listener: EngineCallbacks
  readonly #unwatch: () => void
  readonly #bytes = new Uint8Array(MESSAGE_LIMIT)
  readonly #queue: { readonly bytes: Uint8Array; readonly fds: readonly Handle[] }[] = []
  #isOver = false

  constructor(
    reactor: Reactor,
    memories: SharedMemories,
    options: Omit<EngineOptions, 'build'>,
    listener: EngineCallbacks,
  ) {
    const [ours, given] = socketpair()
    using theirs = given
    this.#socket = ours
    this.#listener = listener
    this.#child = guarded(ours, () => spawnEngine(theirs, memories, options))
    // The next engine takes over its calls. If we end, everything that no service manager keeps is lost.
    this.#child.endBeforeUs(ENGINE_OOM_SCORE)
    this.#unwatch = reactor.watch(ours, () => this.#hear())
    void this.#child.ended.then((ending) => this.#end(howEnded(ending), causeOf(ending)))
  }

  get pid(): number {
    return this.#child.pid
  }

  /** In milliseconds; 0 once it has ended. */
  get processorTime(): number {
    return processTime(this.#child.pid)
  }

  /** Sends a message without blocking: later if the socket is full, not at all if one of `fds` is closed by then. */
  tell(message: ToEngine, fds: readonly Handle[] = []): void {
    if (this.#isOver) return
    this.#queue.push({ bytes: encode(message), fds })
    if (this.#queue.length === 1) this.#flush()
  }

  /** Kills the engine as anybody else might: `ended` is called, and the next engine settles every call in flight. */
  kill(): void {
    this.#child.kill('SIGKILL')
    this.#lookSoon()
  }

  /**
   * Ends the engine for good. Even an engine with stuck threads closes its listeners, and the kernel then answers
   * ENOSYS.
   *
   * @param serves whether it may have received calls; otherwise it is killed at once
   */
  close(serves: boolean): void {
    if (this.#isOver) return
    this.#release()
    if (!serves) this.#child.kill('SIGKILL')
    else setTimeout(() => this.#child.kill('SIGKILL'), GRACE_MS).unref()
  }

  /**
   * Notices the end of the engine; to be called once a second. A thread that hangs in a container's file system
   * outlives SIGKILL, and so does the process, so no signal reports the end. But the first thread is gone then, and no
   * thread of the process ever runs again. (A pidfd of the first thread shows that only up to Linux 6.15.)
   * Its memory is free at once.
   */
  look(): void {
    const { pid } = this.#child
    if (this.#isOver || !isDefunct(pid)) return
    ignoring('any', () => {
      using pidfd = pidfdOpen(pid)
      releaseMemory(pidfd)
    })
    setTimeout(() => this.#end('has ended, but for threads that hang', 'hung'), REAP_MS)
  }

  #lookSoon(): void {
    if (this.#isOver) return
    this.look()
    setTimeout(() => this.#lookSoon(), REAP_MS)
  }

  #flush(): void {
    while (!this.#isOver && this.#queue.length > 0) {
      const { bytes, fds } = this.#queue.shift()!
      if (this.#send(bytes, fds)) continue
      this.#queue.unshift({ bytes, fds })
      setTimeout(() => this.#flush(), RETRY_MS)
      return
    }
  }

  /**
   * @returns false if the socket is full, or there is no memory now; true even if the engine has ended, because the
   *   next engine is told everything again
   */
  #send(bytes: Uint8Array, fds: readonly Handle[]): boolean {
    try {
      send(this.#socket, bytes, fds, MSG_DONTWAIT)
      return true
    } catch (error) {
      // A listener or container has ended since the message was queued.
      if (error instanceof FdClosed) return true
      if (isErrno(error, 'EAGAIN', 'ETOOMANYREFS', 'ENOBUFS', 'ENOMEM')) return false
      if (isErrno(error, 'EPIPE', 'ECONNRESET')) return true
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

  /** Reports the end of the engine, after its last messages. */
  #end(how: string, cause: RestartCause): void {
    if (this.#isOver) return
    this.#hear()
    if (this.#isOver) return
    this.#release()
    this.#listener.ended(how, cause)
  }

  #release(): void {
    this.#isOver = true
    this.#queue.length = 0
    this.#unwatch()
    this.#socket[Symbol.dispose]()
  }
}
