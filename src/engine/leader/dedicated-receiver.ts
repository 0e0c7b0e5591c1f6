import type { Tid } from '../../abi/brand.ts'
import { STATE } from '../../calls/slot.ts'
import { EPOLLIN, type Epoll } from '../../kernel/epoll.ts'
import { allowInterrupts, interrupt } from '../../kernel/interrupt.ts'
import { currentTid } from '../../kernel/process.ts'
import { notifRecv } from '../../kernel/seccomp.ts'
import type { Slots } from '../journal/journal.ts'
import type { SharedState } from '../thread/shared-state.ts'

/** In the words that all threads share: who attends a listener, how many calls it has received, and which listener that is. */
const THREAD = 0
const RECEIVED = 1
const LISTENER = 2
export const DEDICATED_WORDS = 16

/** So many calls of one listener in a row, all of them passed on by what their registers say, make it worth the while. */
const STREAK = 64

interface Means {
  readonly state: SharedState
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
  readonly #state: SharedState
  readonly #slots: Slots
  readonly #epoll: Epoll
  readonly #thread: Tid = currentTid()
  /** Whose call was passed on last, and how many in a row were. */
  #last = -1
  #streak = 0
  #listener: number | undefined
  #slot = 0

  constructor({ state, slots, epoll }: Means) {
    this.#state = state
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
    const { dedicated: attendance, listenerFd, listenerGeneration } = this.#state
    this.#streak = 0
    // A call that came to be served there, and hangs.
    if (this.#slots.isLastTaken) return false
    if (Atomics.compareExchange(attendance, THREAD, 0, this.#thread) !== 0) return false
    // As a call in flight does, it keeps the main thread from closing the descriptor.
    this.#state.holdListener(listener, 1)
    Atomics.store(attendance, LISTENER, listener)
    this.#listener = listener
    this.#epoll.modify(listenerFd[listener]!, 0, [listener, listenerGeneration[listener]!])
    allowInterrupts(true)
    return true
  }

  /** Waits for a call. @returns false if there is none any more, or the thread was called back: it attends nothing then */
  receive(): boolean {
    const { dedicated: attendance, listenerFd, listenerContainer } = this.#state
    const listener = this.#listener!
    this.#slot = this.#slots.takeLast({
      listener,
      container: listenerContainer[listener]!,
      thread: this.#thread,
    })
    const received = this.#slot >= 0 && notifRecv(listenerFd[listener]!, this.#slots.notification(this.#slot))
    if (received) {
      this.#slots.receive(this.#slot)
      Atomics.add(attendance, RECEIVED, 1)
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
    release(this.#state, this.#epoll)
  }
}

function release(state: SharedState, epoll: Epoll): void {
  const { dedicated: attendance, listenerFd, listenerGeneration } = state
  const listener = Atomics.load(attendance, LISTENER)
  epoll.modify(listenerFd[listener]!, EPOLLIN, [listener, listenerGeneration[listener]!])
  state.holdListener(listener, -1)
  Atomics.store(attendance, THREAD, 0)
}

/** Calls back who attends a listener that nobody calls any more: for the main thread, to be asked once a second. */
export class IdleWaker {
  readonly #state: SharedState
  readonly #epoll: Epoll
  #received = 0

  constructor(state: SharedState, epoll: Epoll) {
    this.#state = state
    this.#epoll = epoll
  }

  look(): void {
    const { dedicated: attendance } = this.#state
    const thread = Atomics.load(attendance, THREAD)
    const received = Atomics.load(attendance, RECEIVED)
    const isQuiet = thread !== 0 && received === this.#received
    // A thread that has ended meanwhile, for want of memory, has left its listener to nobody.
    if (isQuiet && !interrupt(thread as Tid)) release(this.#state, this.#epoll)
    this.#received = received
  }
}
