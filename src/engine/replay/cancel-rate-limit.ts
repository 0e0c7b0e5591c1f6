import { now } from '../../kernel/clock.ts'

/** One cancelled call per this time costs the engine less than answered calls. */
const INTERVAL_US = 2000
/** This many cancelled calls at once cost a container nothing. */
const BURST_US = 100 * INTERVAL_US
/**
 * The time for the most calls that any configuration allows in flight. A later due time means that the 32-bit clock has
 * wrapped.
 */
const LONGEST_US = 256 * INTERVAL_US

/**
 * A token bucket (GCRA) for each container, on calls that signals cancelled while they were served. A cancelled call
 * costs the container nothing, but costs us as much as any other. So beyond a rate, and beyond the number of answered
 * calls, each keeps its place among the calls in flight for a time, and the container waits only for itself. A received
 * call is still served at once: otherwise a timer could cancel every one.
 *
 * Invariant: any thread may call everything. Of two threads that count at once, one may not be counted, which costs
 * nothing.
 */
export class CancelRateLimit {
  /** By container: the microsecond at which it will have paid for its cancelled calls. */
  readonly #due: Int32Array

  constructor(due: Int32Array) {
    this.#due = due
  }

  /**
   * A call was cancelled.
   *
   * @param at the word of the container
   * @returns for how many milliseconds no other call may have its place
   */
  count(at: number, ms = now()): number {
    const ahead = this.#ahead(at, ms) + INTERVAL_US
    this.#due[at] = ms * 1000 + ahead
    return Math.max(0, ahead) / 1000
  }

  /** A call was answered, which pays for a cancelled call. */
  pay(at: number, ms = now()): void {
    if (this.#ahead(at, ms) > -BURST_US) Atomics.sub(this.#due, at, INTERVAL_US)
  }

  #ahead(at: number, ms: number): number {
    const ahead = (this.#due[at]! - ms * 1000) | 0
    return ahead < -BURST_US || ahead > LONGEST_US ? -BURST_US : ahead
  }
}
