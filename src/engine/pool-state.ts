/** How many listeners and containers one engine holds; more are refused at registration. */
export const LISTENERS = 4096
export const CONTAINERS = 1024

const WORDS = { lead: 0, epoch: 16, parked: 32, muted: 48 } as const
const HEADER = 64

/**
 * What the threads of the pool share: the lead, and a few words for each listener and each container. Everything else is a
 * thread's own.
 *
 * The lead: one thread at a time, the leader, waits for notifications; the others are parked. Without it two threads race
 * into receive and one blocks there, for the kernel ignores O_NONBLOCK.
 */
export class PoolState {
  readonly buffer: SharedArrayBuffer
  readonly #words: Int32Array
  /** By listener: its descriptor, its container, a count of its uses, calls in flight, and whether it waits for the cap. */
  readonly listenerFd: Int32Array
  readonly listenerContainer: Int32Array
  readonly listenerGeneration: Int32Array
  readonly listenerCalls: Int32Array
  readonly listenerMuted: Int32Array
  /** By container: a count of its changes, calls in flight. */
  readonly containerGeneration: Int32Array
  readonly containerCalls: Int32Array

  constructor(buffer = new SharedArrayBuffer(4 * (HEADER + 5 * LISTENERS + 2 * CONTAINERS))) {
    this.buffer = buffer
    this.#words = new Int32Array(buffer, 0, HEADER)
    let at = 4 * HEADER
    const array = (length: number): Int32Array => {
      const words = new Int32Array(buffer, at, length)
      at += 4 * length
      return words
    }
    this.listenerFd = array(LISTENERS)
    this.listenerContainer = array(LISTENERS)
    this.listenerGeneration = array(LISTENERS)
    this.listenerCalls = array(LISTENERS)
    this.listenerMuted = array(LISTENERS)
    this.containerGeneration = array(CONTAINERS)
    this.containerCalls = array(CONTAINERS)
  }

  /** Counts changes that were posted to the threads. */
  get epoch(): number {
    return Atomics.load(this.#words, WORDS.epoch)
  }

  /** Threads that are parked now: none left means that the pool should grow. */
  get parked(): number {
    return Atomics.load(this.#words, WORDS.parked)
  }

  /** Listeners that wait for the cap of their container. */
  get muted(): number {
    return Atomics.load(this.#words, WORDS.muted)
  }

  countMuted(change: 1 | -1): void {
    Atomics.add(this.#words, WORDS.muted, change)
  }

  tryLead(): boolean {
    return Atomics.compareExchange(this.#words, WORDS.lead, 0, 1) === 0
  }

  passLead(): void {
    Atomics.store(this.#words, WORDS.lead, 0)
    Atomics.notify(this.#words, WORDS.lead, 1)
  }

  /** Blocks the thread until the lead is free or something was posted. */
  park(): void {
    Atomics.add(this.#words, WORDS.parked, 1)
    Atomics.wait(this.#words, WORDS.lead, 1)
    Atomics.sub(this.#words, WORDS.parked, 1)
  }

  /** Makes every parked thread look at what was posted to it. */
  announce(): void {
    Atomics.add(this.#words, WORDS.epoch, 1)
    Atomics.notify(this.#words, WORDS.lead)
  }
}
