import { now } from '../../kernel/clock.ts'
import { RateLimit } from '../../shared/rate-limit.ts'

/**
 * The time that a call may take before its container has one call in flight: most take a third of it, and all of it on
 * a slow machine with other work, where that costs a container little.
 */
export const IN_TURN_MS = 0.25
/**
 * The time that a call may take before its container is served at the usual priority, so that it waits for tasks that
 * have a higher one. No usual call takes so long. Calls that are made to be dear take 10 to 10,000 ms.
 */
export const SLOW_MS = 1
/** Beyond that, the calls of a container may take a tenth of one processor. */
const PARTS = 10
/**
 * How much they may take at once, in milliseconds of the time that pays for it: a new thread compiles what it runs
 * first.
 */
const BURST_MS = 2000
/** A container owes no more than this. */
const LONGEST_MS = 5000

/**
 * A rate limit for each container, on the processor time of its calls. A container can make calls that cost a
 * thousand times what others cost. So a container whose calls take more than they may is dear, until time has paid for
 * them. One table says whose calls are made in turn (IN_TURN_MS): such a container has one call in flight, which takes
 * one processor at most. Another says whose calls are slow (SLOW_MS): the scheduler shares that processor with others.
 * The time that a call waits is not counted, nor are cheap calls, so that no number of them hides the dear ones.
 *
 * Invariant: any thread may call everything.
 */
export class FairShare {
  /** In milliseconds. */
  readonly #limit: RateLimit
  /** The time that a call may take, in milliseconds. */
  readonly #callMs: number

  /** @param words one for each container */
  constructor(words: Int32Array, callMs: number) {
    this.#limit = new RateLimit(words, { unit: 1, burst: BURST_MS, longest: LONGEST_MS })
    this.#callMs = callMs
  }

  /**
   * A call has taken `spent` milliseconds of processors.
   *
   * @param at the word of the container
   */
  charge(at: number, spent: number, ms = now()): void {
    const price = Math.round(PARTS * (spent - this.#callMs))
    if (price > 0) this.#limit.take(at, price, ms)
  }

  isDear(at: number, ms?: number): boolean {
    return this.#limit.left(at, ms) < 0
  }

  /** Another container has this number now. */
  forget(at: number): void {
    this.#limit.forget(at)
  }
}
