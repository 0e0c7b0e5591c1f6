import type { Tid } from '../../abi/brand.ts'
import { EPOLLIN } from '../../abi/poll.ts'
import { STATE } from '../../calls/slot.ts'
import type { Epoll } from '../../kernel/epoll.ts'
import { allowInterrupts, interrupt } from '../../kernel/interrupt.ts'
import { currentTid } from '../../kernel/process.ts'
import { notifRecv } from '../../kernel/seccomp.ts'
import type { Slots } from '../journal/slots.ts'
import type { ListenerTable } from '../tables/listener-table.ts'

/** In the words that all threads share: who attends a listener, how many calls it has received, and which listener that is. */
const THREAD = 0
const RECEIVED = 1
const LISTENER = 2
export const DEDICATED_WORDS = 16

/** So many calls of one listener in a row, all of them passed on by what their registers say, make it worth the while. */
const STREAK = 64

interface Means {
  readonly listeners: ListenerTable
  readonly slots: Slots
  readonly epoll: Epoll
}

/**
 * A listener that is called all the time is attended: one thread waits in receive itself for its calls, while another one leads
 * for all others. That saves a system call of three, and the kernel wakes the thread on the processor of the caller. It
 * only passes calls on; whatever may take longer is served as everywhere else, and the listener is everybody's again.
 *
 * Receive waits for ever (the kernel ignores O_NONBLOCK), and up to Linux 6.10 also where nobody is left who could call. So
 * the main thread calls back who has received nothing for a while.
 *
 * This is made for one thread.
 */
export class DedicatedReceiver {
  readonly #words: Int32Array
  readonly #listeners: ListenerTable
  readonly #slots: Slots
  readonly #epoll: Epoll
  readonly #thread: Tid = currentTid()
  /** Whose call was passed on last, and how many in a row were. */
  #last = -1
  #streak = 0
  #listener: number | undefined
  #slot = 0

  /** @param words DEDICATED_WORDS that all threads share */
  constructor(words: Int32Array, { listeners, slots, epoll }: Means) {
    this.#words = words
    this.#listeners = listeners
    this.#slots = slots
    this.#epoll = epoll
    allowInterrupts(false)
  }

  /** What this thread attends. */
  get listener(): number | undefined {
    return this.#listener
  }

  /** Where its calls are received. */
  get slot(): number {
    return this.#slot
  }

  /** A call that this thread received was passed on at once, or (undefined) was not. @returns whether it is worth the while */
  note(listener: number | undefined): boolean {
    this.#streak = listener === this.#last ? this.#streak + 1 : 0
    this.#last = listener ?? -1
    return this.#streak >= STREAK
  }

  /** For the leader, which passes the lead then. @returns false if another thread attends a listener */
  begin(listener: number): boolean {
    const words = this.#words
    const { fd, generation } = this.#listeners
    this.#streak = 0
    // A call that came to be served there, and hangs.
    if (this.#slots.isLastTaken) return false
    if (Atomics.compareExchange(words, THREAD, 0, this.#thread) !== 0) return false
    // As a call in flight does, it keeps the main thread from closing the descriptor.
    this.#listeners.hold(listener, 1)
    Atomics.store(words, LISTENER, listener)
    this.#listener = listener
    this.#epoll.modify(fd[listener]!, 0, [listener, generation[listener]!])
    allowInterrupts(true)
    return true
  }

  /** Waits for a call. @returns false if there is none any more, or the thread was called back: it attends nothing then */
  receive(): boolean {
    const { fd, container } = this.#listeners
    const listener = this.#listener!
    this.#slot = this.#slots.takeLast({
      listener,
      container: container[listener]!,
      thread: this.#thread,
    })
    const received = this.#slot >= 0 && notifRecv(fd[listener]!, this.#slots.notification(this.#slot))
    if (received) {
      this.#slots.receive(this.#slot)
      Atomics.add(this.#words, RECEIVED, 1)
    } else {
      if (this.#slot >= 0) this.#slots.setState(this.#slot, STATE.free)
      this.end()
    }
    return received
  }

  /** The listener is everybody's again. */
  end(): void {
    allowInterrupts(false)
    this.#listener = undefined
    release(this.#words, this.#listeners, this.#epoll)
  }
}

function release(words: Int32Array, listeners: ListenerTable, epoll: Epoll): void {
  const listener = Atomics.load(words, LISTENER)
  epoll.modify(listeners.fd[listener]!, EPOLLIN, [listener, listeners.generation[listener]!])
  listeners.hold(listener, -1)
  Atomics.store(words, THREAD, 0)
}

/** Calls back who attends a listener that nobody calls any more: for the main thread, to be asked once a second. */
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
    const thread = Atomics.load(this.#words, THREAD)
    const received = Atomics.load(this.#words, RECEIVED)
    const isQuiet = thread !== 0 && received === this.#received
    // A thread that has ended meanwhile, for want of memory, has left its listener to nobody.
    if (isQuiet && !interrupt(thread as Tid)) release(this.#words, this.#listeners, this.#epoll)
    this.#received = received
  }
}
