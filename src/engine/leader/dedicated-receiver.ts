import type { Tid } from '../../abi/brand.ts'
import { EPOLLIN } from '../../abi/socket.ts'
import type { Epoll } from '../../kernel/epoll.ts'
import { allowInterrupts, currentTid, interrupt } from '../../kernel/process.ts'
import { notifRecv } from '../../kernel/seccomp.ts'
import { type Slots, STATE } from '../../link/journal.ts'
import { CACHE_LINE, struct } from '../../shared/words.ts'
import type { ListenerTable } from '../tables/listener-table.ts'

/**
 * The words that all threads share: the thread that is the dedicated receiver (0 for none, negative while it serves a
 * call), how many calls it has received, and the listener from which it receives.
 *
 *   none -> thread        DedicatedReceiver.begin(), by the leader
 *   thread -> serving     DedicatedReceiver.serve(), by that thread
 *   serving -> thread     DedicatedReceiver.served(), by that thread
 *   thread -> none        DedicatedReceiver.end(), by that thread: it has a call that may take long, or was interrupted
 *   serving -> none       DedicatedReceiver.end(), by that thread: its call may take long after all
 *   thread -> none        IdleWaker.look(), by the main thread: that thread has ended
 *   serving -> released   DedicatedReceiver.release(), by the deputy: that thread hangs; or IdleWaker.look()
 *   released -> none      DedicatedReceiver.release(), IdleWaker.look(): the listener is back in the set of all
 */
const [WORD] = struct({ thread: 1, received: 1, listener: 1 })
export const DEDICATED_WORDS = CACHE_LINE
const NONE = 0
/** No thread has this number, with either sign. */
const RELEASED = -0x8000_0000

/**
 * A listener gets a dedicated receiver after this many calls in a row that were answered at once: by their registers
 * alone, or by a handler that is declared to do so.
 */
const STREAK = 64

interface ReceiverDependencies {
  readonly listeners: ListenerTable
  readonly slots: Slots
  readonly epoll: Epoll
}

/**
 * A listener that is called all the time gets a dedicated receiver: one thread blocks in NOTIF_RECV for its calls,
 * while another thread leads for all other listeners. That saves one system call of three, and the kernel wakes the
 * thread on the processor of the caller. The thread itself answers calls whose handler answers at once. For a call that
 * may take longer it stops being the dedicated receiver: the listener goes back into the set of all. If a call hangs
 * nevertheless, in the container's memory, the deputy puts the listener back.
 *
 * NOTIF_RECV waits for ever (the kernel ignores O_NONBLOCK), and up to Linux 6.10 even if no task is left that could
 * call. So the main thread interrupts a dedicated receiver that has received nothing for a while.
 *
 * Invariant: an object belongs to one thread, which alone calls it. At most one thread of the engine is a dedicated
 * receiver; only it uses the last slot of the journal. It counts its listener as in use, so that the main thread does
 * not close it.
 */
export class DedicatedReceiver {
  readonly #words: Int32Array
  readonly #listeners: ListenerTable
  readonly #slots: Slots
  readonly #epoll: Epoll
  readonly #thread: Tid = currentTid()
  /** The listener whose call was last answered at once, and how many of its calls in a row were. */
  #last = -1
  #streak = 0
  #listener: number | undefined
  #slot = 0

  /** @param words DEDICATED_WORDS that all threads share */
  constructor(words: Int32Array, { listeners, slots, epoll }: ReceiverDependencies) {
    this.#words = words
    this.#listeners = listeners
    this.#slots = slots
    this.#epoll = epoll
    allowInterrupts(false)
  }

  /** The listener from which this thread alone receives. */
  get listener(): number | undefined {
    return this.#listener
  }

  get slot(): number {
    return this.#slot
  }

  /**
   * Notes that this thread has answered a call of this listener at once; undefined if it did not answer at once.
   *
   * @returns whether `begin` is worth its cost
   */
  note(listener: number | undefined): boolean {
    this.#streak = listener === this.#last ? this.#streak + 1 : 0
    this.#last = listener ?? -1
    return this.#streak >= STREAK
  }

  /**
   * Makes the leader a dedicated receiver; it then hands over the lead. @returns false if there is a dedicated receiver
   * already
   */
  begin(listener: number): boolean {
    const words = this.#words
    const { fd, generation } = this.#listeners
    this.#streak = 0
    // A call was received into the last slot, had to be served, and hangs.
    if (this.#slots.isLastTaken) return false
    if (Atomics.compareExchange(words, WORD.thread, NONE, this.#thread) !== NONE) return false
    // Like a call in flight, this keeps the main thread from closing the descriptor.
    this.#listeners.hold(listener, 1)
    Atomics.store(words, WORD.listener, listener)
    this.#listener = listener
    this.#epoll.modify(fd[listener]!, 0, [listener, generation[listener]!])
    allowInterrupts(true)
    return true
  }

  /**
   * Waits for a call.
   *
   * @returns false if no call can come any more, the listener is dropped, or the thread was interrupted. Then the
   *   thread is no longer a dedicated receiver
   */
  receive(): boolean {
    const { fd, container, dropped } = this.#listeners
    const listener = this.#listener!
    if (Atomics.load(dropped, listener) === 1) {
      this.end()
      return false
    }
    this.#slot = this.#slots.takeLast({
      listener,
      container: container[listener]!,
      thread: this.#thread,
    })
    const received = this.#slot >= 0 && notifRecv(fd[listener]!, this.#slots.notification(this.#slot))
    if (received) {
      this.#slots.receive(this.#slot)
      Atomics.add(this.#words, WORD.received, 1)
    } else {
      if (this.#slot >= 0) this.#slots.setState(this.#slot, STATE.free)
      this.end()
    }
    return received
  }

  /**
   * The thread serves the call itself. The call counts the listener as in use, so another thread may put the listener
   * back from now on.
   */
  serve(): void {
    Atomics.store(this.#words, WORD.thread, -this.#thread)
  }

  /** The call was served. @returns false if this thread is no dedicated receiver any more */
  served(): boolean {
    if (this.#listener !== undefined && this.#reclaim()) return true
    this.#forget()
    return false
  }

  /** The leader receives from the listener again. */
  end(): void {
    const isOurs = Atomics.load(this.#words, WORD.thread) === this.#thread || this.#reclaim()
    this.#forget()
    if (isOurs) putBack(this.#words, this.#listeners, this.#epoll)
  }

  /** Returns whether the dedicated receiver, whichever thread it is, is serving a call now. */
  get serves(): boolean {
    const thread = Atomics.load(this.#words, WORD.thread)
    return thread < 0 && thread !== RELEASED
  }

  /** Puts the listener back for a thread that hangs while it serves a call. */
  release(thread: Tid): void {
    release(this.#words, this.#listeners, this.#epoll, thread)
  }

  /** @returns false if another thread has put the listener back, or does */
  #reclaim(): boolean {
    return Atomics.compareExchange(this.#words, WORD.thread, -this.#thread, this.#thread) === -this.#thread
  }

  #forget(): void {
    allowInterrupts(false)
    this.#listener = undefined
  }
}

function release(words: Int32Array, listeners: ListenerTable, epoll: Epoll, thread: Tid): void {
  if (Atomics.compareExchange(words, WORD.thread, -thread, RELEASED) === -thread) putBack(words, listeners, epoll)
}

function putBack(words: Int32Array, listeners: ListenerTable, epoll: Epoll): void {
  const listener = Atomics.load(words, WORD.listener)
  epoll.modify(listeners.fd[listener]!, EPOLLIN, [listener, listeners.generation[listener]!])
  listeners.hold(listener, -1)
  Atomics.store(words, WORD.thread, NONE)
}

/**
 * Interrupts a dedicated receiver whose listener is quiet, and puts back the listener of a thread that has hung for a
 * second.
 *
 * Invariant: the main thread alone calls it, once a second.
 */
export class IdleWaker {
  readonly #words: Int32Array
  readonly #listeners: ListenerTable
  readonly #epoll: Epoll
  #received = 0

  constructor(words: Int32Array, listeners: ListenerTable, epoll: Epoll) {
    this.#words = words
    this.#listeners = listeners
    this.#epoll = epoll
  }

  look(): void {
    const thread = Atomics.load(this.#words, WORD.thread)
    const received = Atomics.load(this.#words, WORD.received)
    const isQuiet = received === this.#received
    if (isQuiet && thread < 0 && thread !== RELEASED) release(this.#words, this.#listeners, this.#epoll, -thread as Tid)
    // A thread that has ended for lack of memory can no longer put its listener back into the set.
    if (isQuiet && thread > 0 && !interrupt(thread as Tid)) putBack(this.#words, this.#listeners, this.#epoll)
    this.#received = received
  }
}
