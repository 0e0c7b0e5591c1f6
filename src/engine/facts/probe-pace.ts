/** How many probes may begin at once, and the time after which one more may. */
const BURST = 64
const EVERY_MS = 50

/**
 * Limits the rate of probes, each of which costs the host a process, for each container, in memory that the threads
 * share. No container starves, because each waits only for itself.
 *
 * Invariant: any thread may call everything; a word is changed atomically.
 */
export class ProbePace {
  /** By container: the time, in units of EVERY_MS, at which all probes so far would be over at that rate. */
  readonly #words: Int32Array
  readonly #now: () => number

  constructor(words: Int32Array, now: () => number) {
    this.#words = words
    this.#now = now
  }

  /** Registers one more probe. @returns the milliseconds after which it may begin */
  wait(container: number): number {
    const time = this.#time()
    for (;;) {
      const seen = Atomics.load(this.#words, container)
      const ahead = Math.max(0, (seen - time) | 0)
      if (Atomics.compareExchange(this.#words, container, seen, (time + ahead + 1) | 0) !== seen) continue
      return Math.max(0, ahead + 1 - BURST) * EVERY_MS
    }
  }

  forget(container: number): void {
    Atomics.store(this.#words, container, this.#time())
  }

  #time(): number {
    return Math.trunc(this.#now() / EVERY_MS) | 0
  }
}
