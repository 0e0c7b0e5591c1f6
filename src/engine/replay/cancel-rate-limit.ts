import { now } from '../../kernel/clock.ts'

/** One cancelled call in this time takes less of the engine than calls that are answered. */
const INTERVAL_US = 2000
/** This many at once cost a container nothing. */
const BURST_US = 100 * INTERVAL_US
/**
 * The time for as many calls as a container may have in flight by any configuration. What is due later than that is due
 * because the clock, of 32 bits, has begun anew.
 */
const LONGEST_US = 256 * INTERVAL_US

/**
 * A token bucket (GCRA) for each container, on its calls that signals have cancelled while they were served. A
 * cancelled call costs the container nothing and us as much as any other. So beyond a rate, and beyond the number of
 * calls that were answered, each keeps its place among the calls in flight for a time, and the container waits for
 * nobody but itself. A call that is received is served at once: otherwise a timer could cancel every one.
 *
 * Invariant: any thread may call everything. Of two threads that count at once, one may not be counted, which costs
 * nothing.
 */
export class CancelRateLimit {
  /** The microsecond at which a container will have paid for its cancelled calls. */
  readonly #due: Int32Array

  constructor(due: Int32Array) {
    this.#due = due
  }

  /**
   * A call was cancelled.
   *
   * @param at the word of the container
   * @returns for how many milliseconds its place must not be given to another call
   */
  count(at: number, ms = now()): number {
    const ahead = this.#ahead(at, ms) + INTERVAL_US
    this.#due[at] = ms * 1000 + ahead
    return Math.max(0, ahead) / 1000
  }

  /** A call was answered: that pays for a cancelled call. */
  pay(at: number, ms = now()): void {
    if (this.#ahead(at, ms) > -BURST_US) Atomics.sub(this.#due, at, INTERVAL_US)
  }

  #ahead(at: number, ms: number): number {
    const ahead = (this.#due[at]! - ms * 1000) | 0
    return ahead < -BURST_US || ahead > LONGEST_US ? -BURST_US : ahead
  }
}
