import { PROXY_FDS, PROXY_LISTENER, PROXY_MESSAGE_LIMIT, PROXY_NOTIF, parseProxyRequest } from '../../abi/lxc-proxy.ts'
import {
  encodeResponse,
  NOTIF,
  SECCOMP_NOTIF_SIZE,
  SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
  SECCOMP_USER_NOTIF_FLAG_CONTINUE,
} from '../../abi/seccomp.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { isSeccompListener, notifSetFlags } from '../../kernel/seccomp.ts'
import { type Message, MSG_DONTWAIT, receive, send, shutdown } from '../../kernel/socket.ts'
import type { LxcProxyState } from './lxc-proxy-state.ts'

/** A call that has waited for us so long is not begun, and no reply is sent that much later: the monitor waits 30 s. */
const BEGIN_MS = 20_000
const REPLY_MS = 25_000

/** What a call was answered. */
export interface LxcProxyAnswer {
  readonly is: 'continue' | 'act' | 'errno'
  readonly errno: number
  readonly value: bigint
}

/**
 * Receives, for one thread, the calls that LXC's monitors have received and forward to us, one at a time on a connection.
 *
 * A monitor waits 30 seconds for the reply, then answers the call itself (ENOSYS) and keeps the connection: whatever came
 * later it would take for the reply to its *next* call. So nothing is ever sent late: the connection is shut down, and the
 * monitor makes another one with its next call.
 *
 * @see lxc src/lxc/seccomp.c seccomp_notify_handler()
 */
export class LxcProxyReceiver {
  readonly #words: LxcProxyState
  readonly #refuse: (why: string) => void
  readonly #bytes = new Uint8Array(PROXY_MESSAGE_LIMIT + 1)

  /** @param refuse is told what a monitor did wrong, before its connection is shut down */
  constructor(words: LxcProxyState, refuse: (why: string) => void) {
    this.#words = words
    this.#refuse = refuse
  }

  /**
   * Takes the call that was forwarded; its notification goes into `slot`, as if the kernel had written it there.
   *
   * @param index the place of the connection among the listeners
   * @returns undefined if nothing was there; 'over' if the connection is of no more use
   */
  receive(index: number, connection: Handle, slot: Uint8Array): LxcProxyCall | 'over' | undefined {
    const message = take(connection, this.#bytes)
    if (message === 'over' || message === undefined) return message
    try {
      // It gave that call up: what is sent now would be taken for the reply to this one.
      if (this.#words.isServing(index)) throw new RangeError('it did not wait for the reply to its last call')
      const call = this.#parse(index, connection, message)
      slot.set(this.#bytes.subarray(PROXY_NOTIF, PROXY_NOTIF + SECCOMP_NOTIF_SIZE))
      return call
    } catch (error) {
      for (const fd of message.fds) fd[Symbol.dispose]()
      shutdown(connection)
      this.#refuse((error as Error).message)
      return 'over'
    }
  }

  #parse(index: number, connection: Handle, { length, fds, truncated, sent }: Message): LxcProxyCall {
    const { response, replyLength } = parseProxyRequest(this.#bytes.subarray(0, length))
    const listener = fds[PROXY_LISTENER]
    if (truncated || fds.length !== PROXY_FDS || !listener || !isSeccompListener(listener))
      throw new RangeError('the descriptors are not a task, its memory and a listener')
    const now = Date.now()
    const since = Math.min(sent ?? now, now)
    if (now - since > BEGIN_MS) throw new RangeError('the call has waited too long already')
    // Of a connection that was not accepted yet, nobody knows how long its message has been waiting.
    const isAgeKnown = sent !== undefined && !this.#words.isFresh(index)
    this.#words.begin(index, Math.trunc((now - since) / 1000))
    notifSetFlags(listener.raw, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
    const end = (): void => this.#words.end(index)
    return new LxcProxyCall(this.#bytes.subarray(0, replyLength), response, {
      ...{ connection, since, isAgeKnown, fds, listener, end },
    })
  }
}

interface Waiting {
  readonly connection: Handle
  readonly fds: readonly Fd[]
  readonly listener: Fd
  /** Milliseconds since 1970. */
  readonly since: number
  readonly isAgeKnown: boolean
  /** The monitor waits no longer. */
  readonly end: () => void
}

/** A call that its caller and a monitor wait for. Its listener is the monitor's: nothing may be received from it. */
export class LxcProxyCall implements Disposable {
  readonly #message: Uint8Array
  readonly #response: number
  readonly #waiting: Waiting

  /** @param message what the reply is made of: as the request, but for what stands at `response` */
  constructor(message: Uint8Array, response: number, waiting: Waiting) {
    this.#message = message
    this.#response = response
    this.#waiting = waiting
  }

  get listener(): number {
    return this.#waiting.listener.raw
  }

  /**
   * Tells the monitor what the caller has just been answered. Its own answer then comes too late, which it logs; the other
   * way round we would not learn whether the call still waited.
   *
   * @param delivered whether the call still waited for our answer
   */
  reply({ is, errno, value }: LxcProxyAnswer, delivered: boolean): void {
    const { connection, since, isAgeKnown, end } = this.#waiting
    const { buffer, byteOffset } = this.#message
    encodeResponse(new DataView(buffer, byteOffset + this.#response), {
      id: new DataView(buffer, byteOffset + PROXY_NOTIF).getBigUint64(NOTIF.id, true),
      value: errno === 0 ? value : 0n,
      error: -errno,
      flags: is === 'continue' ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0,
    })
    // A monitor that gave up has answered the call: one that still waited proves that it did not.
    const isInTime = Date.now() - since < REPLY_MS && (delivered || isAgeKnown)
    // Before it: the next call may come, and to another thread, as soon as the monitor has its reply.
    end()
    if (!isInTime || !trySend(connection, this.#message)) shutdown(connection)
  }

  [Symbol.dispose](): void {
    for (const fd of this.#waiting.fds) fd[Symbol.dispose]()
  }
}

function take(connection: Handle, bytes: Uint8Array): Message | 'over' | undefined {
  try {
    const message = receive(connection, bytes)
    return message?.length === 0 && message.fds.length === 0 ? 'over' : message
  } catch {
    return 'over'
  }
}

/** @returns false if the monitor has gone, or does not read */
function trySend(connection: Handle, message: Uint8Array): boolean {
  try {
    send(connection, message, [], MSG_DONTWAIT)
    return true
  } catch {
    return false
  }
}
