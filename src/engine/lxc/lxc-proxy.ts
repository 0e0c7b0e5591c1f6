import { PROXY_FDS, PROXY_LISTENER, PROXY_MESSAGE_LIMIT, PROXY_NOTIF, parseProxyRequest } from '../../abi/lxc-proxy.ts'
import {
  encodeResponse,
  NOTIF,
  SECCOMP_NOTIF_SIZE,
  SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
  SECCOMP_USER_NOTIF_FLAG_CONTINUE,
} from '../../abi/seccomp.ts'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { orElse } from '../../kernel/error.ts'
import { Fd, type Handle } from '../../kernel/fd.ts'
import { isSeccompListener, notifSetFlags } from '../../kernel/seccomp.ts'
import { type Message, receive, send, shutdown } from '../../kernel/socket.ts'

/**
 * none: the place has a listener, or nothing. fresh: a monitor's connection that has not forwarded a call yet. idle:
 * the monitor does not wait. serving and above: it waits, and it forwarded the call in second (word - serving).
 *
 *   none -> fresh       LxcProxyState.open()
 *   fresh -> serving    LxcProxyState.begin()
 *   idle -> serving     LxcProxyState.begin()
 *   serving -> idle     LxcProxyState.end()
 *   idle -> none        LxcProxyState.close(), as from every state
 */
const WORD = { none: 0, fresh: 1, idle: 2, serving: 3 } as const

/**
 * Holds the state of the connections of LXC's monitors: one word per listener number, in memory that all threads share.
 *
 * Invariant: the main thread opens and closes a word while no call of it is served; the thread that serves a forwarded
 * call begins and ends it; `LxcProxyDeadlines` may end it too, from the main thread.
 */
export class LxcProxyState {
  readonly #words: Int32Array
  readonly #seconds: () => number

  constructor(words: Int32Array, seconds: () => number) {
    this.#words = words
    this.#seconds = seconds
  }

  open(index: number): void {
    Atomics.store(this.#words, index, WORD.fresh)
  }

  close(index: number): void {
    Atomics.store(this.#words, index, WORD.none)
  }

  /** Returns whether `index` is a monitor's connection, and not a listener. */
  has(index: number): boolean {
    return this.#load(index) !== WORD.none
  }

  /** Returns whether the connection has not forwarded any call yet. */
  isFresh(index: number): boolean {
    return this.#load(index) === WORD.fresh
  }

  /** Marks that the monitor waits for a reply. @param age seconds since the monitor forwarded the call */
  begin(index: number, age: number): void {
    Atomics.store(this.#words, index, WORD.serving + Math.max(0, this.#seconds() - age))
  }

  end(index: number): void {
    Atomics.store(this.#words, index, WORD.idle)
  }

  /** Returns whether the monitor waits for a reply. */
  isServing(index: number): boolean {
    return this.#load(index) >= WORD.serving
  }

  /** Returns for how many seconds the monitor has been waiting; 0 if it does not wait. */
  waiting(index: number): number {
    const word = this.#load(index)
    return word < WORD.serving ? 0 : this.#seconds() - (word - WORD.serving)
  }

  #load(index: number): number {
    return Atomics.load(this.#words, index)
  }
}

/** A monitor waits 30 s for a reply (see lxc-proxy.ts); we end its connection before that. */
const DEADLINE_S = 20
const LOOK_MS = 1000

/**
 * Shuts down the connection of a monitor of LXC whose call hangs. This runs in the main thread, since the thread that
 * serves the call hangs too.
 */
export class LxcProxyDeadlines {
  readonly #words: LxcProxyState
  readonly #connections = new Map<number, number>()
  readonly #fault: (message: string) => void
  #timer: NodeJS.Timeout | undefined

  constructor(words: LxcProxyState, fault: (message: string) => void) {
    this.#words = words
    this.#fault = fault
  }

  watch(index: number, connection: number): void {
    this.#words.open(index)
    this.#connections.set(index, connection)
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS)
  }

  /** Stops watching a connection. Precondition: its descriptor is not closed yet. */
  forget(index: number): void {
    if (!this.#connections.delete(index)) return
    this.#words.close(index)
    if (this.#connections.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #look(): void {
    for (const [index, raw] of this.#connections) {
      if (this.#words.waiting(index) < DEADLINE_S) continue
      this.#words.end(index)
      this.#fault(`Cannot let a monitor of LXC wait any longer: a call of its container hangs for ${DEADLINE_S} s`)
      shutdown(new Fd(raw))
    }
  }
}

/** A call older than `BEGIN_MS` is not begun, and after `REPLY_MS` no reply is sent: the monitor waits 30 s. */
const BEGIN_MS = 20_000
const REPLY_MS = 25_000

/** The answer that the caller got. */
interface LxcProxyAnswer {
  readonly is: 'continue' | 'act' | 'errno'
  readonly errno: number
  readonly value: bigint
}

/**
 * Receives, for one thread, the calls that LXC's monitors forward to us; a connection has at most one call at a time.
 *
 * A monitor waits 30 seconds for the reply, then answers the call itself (ENOSYS) and keeps the connection: it would
 * mistake a late reply for the reply to its *next* call. So nothing is ever sent late; the connection is shut down
 * instead, and the monitor connects again with its next call.
 *
 * @see lxc src/lxc/seccomp.c seccomp_notify_handler()
 */
export class LxcProxyReceiver {
  readonly #words: LxcProxyState
  readonly #refuse: (why: string) => void
  readonly #bytes = new Uint8Array(PROXY_MESSAGE_LIMIT + 1)

  /**
   * @param refuse called with the error of a monitor, after its connection was shut down
   */
  constructor(words: LxcProxyState, refuse: (why: string) => void) {
    this.#words = words
    this.#refuse = refuse
  }

  /**
   * Receives a forwarded call and copies its notification into `slot`, as if the kernel had written it there.
   *
   * @param index the keeper's number of the connection
   * @returns undefined if no message is there; 'over' if the connection has ended or was shut down
   */
  receive(index: number, connection: Handle, slot: Uint8Array): LxcProxyCall | 'over' | undefined {
    const message = take(connection, this.#bytes)
    if (message === 'over' || message === undefined) return message
    try {
      // The monitor gave up its last call: it would mistake our reply to that call for the reply to this one.
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
    // A message that was sent before we accepted its connection has no time stamp of its sending: its age is unknown.
    const isAgeKnown = sent !== undefined && !this.#words.isFresh(index)
    this.#words.begin(index, Math.trunc((now - since) / 1000))
    notifSetFlags(listener.raw, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
    const end = (): void => this.#words.end(index)
    return new LxcProxyCall(this.#bytes.subarray(0, replyLength), response, {
      ...{ connection, since, isAgeKnown, fds, listener, end },
    })
  }
}

interface WaitingMonitor {
  readonly connection: Handle
  readonly fds: readonly Fd[]
  readonly listener: Fd
  /** Milliseconds since 1970. */
  readonly since: number
  readonly isAgeKnown: boolean
  /** Marks that the monitor does not wait any more. */
  readonly end: () => void
}

/**
 * A forwarded call, for which its caller and a monitor wait. The listener belongs to the monitor: we may answer through
 * it, but not receive.
 */
export class LxcProxyCall implements Disposable {
  readonly #message: Uint8Array
  readonly #response: number
  readonly #monitor: WaitingMonitor
  /** Called before the monitor has its reply: as soon as it has, it may forward the next call. */
  beforeReply: () => void = () => {}

  /** @param message the bytes of the reply: those of the request, with the answer written at offset `response` */
  constructor(message: Uint8Array, response: number, monitor: WaitingMonitor) {
    this.#message = message
    this.#response = response
    this.#monitor = monitor
  }

  get listenerFd(): number {
    return this.#monitor.listener.raw
  }

  /**
   * Sends the monitor the answer that the caller just got. The monitor's own answer then comes too late, and it logs
   * that; if the monitor answered first, we would not learn whether the call still waited.
   *
   * @param delivered whether the call still waited for our answer
   */
  reply({ is, errno, value }: LxcProxyAnswer, delivered: boolean): void {
    const { connection, since, isAgeKnown, end } = this.#monitor
    const { buffer, byteOffset } = this.#message
    encodeResponse(new DataView(buffer, byteOffset + this.#response), {
      id: new DataView(buffer, byteOffset + PROXY_NOTIF).getBigUint64(NOTIF.id, true),
      value: errno === 0 ? value : 0n,
      error: -errno,
      flags: is === 'continue' ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0,
    })
    // A monitor that gives up answers the call: so if the call still waited for us, the monitor did not give up.
    const isInTime = Date.now() - since < REPLY_MS && (delivered || isAgeKnown)
    end()
    this.beforeReply()
    if (!isInTime || !trySend(connection, this.#message)) shutdown(connection)
  }

  [Symbol.dispose](): void {
    for (const fd of this.#monitor.fds) fd[Symbol.dispose]()
  }
}

const take = (connection: Handle, bytes: Uint8Array): Message | 'over' | undefined =>
  orElse('over', () => {
    const message = receive(connection, bytes)
    return message?.length === 0 && message.fds.length === 0 ? 'over' : message
  })

/** Sends a reply without blocking. @returns false if the monitor has gone, or does not read */
const trySend = (connection: Handle, message: Uint8Array): boolean =>
  orElse(false, () => {
    send(connection, message, [], MSG_DONTWAIT)
    return true
  })
