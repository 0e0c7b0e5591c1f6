import { now } from '../kernel/clock.ts'

interface Terms {
  /** The time that pays for one unit, in milliseconds. */
  readonly unit: number
  /** How many units may be taken at once. */
  readonly burst: number
  /** Nobody owes more than this: what is due later is due because the clock, of 32 bits, has begun again. */
  readonly longest: number
}

/**
 * Limits how much each of many may take in a time, by the generic cell rate algorithm (GCRA): one word says when time
 * will have paid for all that was taken so far.
 *
 * Invariant: any thread may call everything, if the words are shared; a word is changed atomically.
 */
export class RateLimit {
  /** In units of time; 0 for nothing taken. */
  readonly #due: Int32Array
  readonly #unit: number
  readonly #burst: number
  readonly #longest: number

  /** @param due zeroed at first */
  constructor(due: Int32Array, { unit, burst, longest }: Terms) {
    this.#due = due
    this.#unit = unit
    this.#burst = burst
    this.#longest = longest
  }

  /** Takes units, even if fewer are left. @returns after how many milliseconds none would be missing */
  take(at: number, units: number, ms = now()): number {
    const time = this.#time(ms)
    for (;;) {
      const seen = Atomics.load(this.#due, at)
      const ahead = Math.min(this.#ahead(seen, time) + units, this.#longest)
      if (Atomics.compareExchange(this.#due, at, seen, time + ahead) !== seen) continue
      return Math.max(0, ahead - this.#burst) * this.#unit
    }
  }

  /** Returns how many units may be taken now; a negative number if more were taken. */
  left(at: number, ms?: number): number {
    const due = this.#due[at]!
    // Nearly always, and then no clock is read.
    if (due === 0) return this.#burst
    return this.#burst - this.#ahead(due, this.#time(ms ?? now()))
  }

  /** Gives one unit back, of those that were taken. */
  giveBack(at: number, ms = now()): void {
    if (this.#ahead(this.#due[at]!, this.#time(ms)) > 0) Atomics.sub(this.#due, at, 1)
  }

  /** The word is somebody else's now. */
  forget(at: number): void {
    Atomics.store(this.#due, at, 0)
  }

  #time(ms: number): number {
    return Math.floor(ms / this.#unit)
  }

  #ahead(due: number, time: number): number {
    const ahead = (due - time) | 0
    return due === 0 || ahead < 0 || ahead > this.#longest ? 0 : ahead
  }
}
