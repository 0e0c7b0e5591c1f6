import { now } from '../../kernel/clock.ts'
import { RateLimit } from '../../shared/rate-limit.ts'

/**
 * The time that a call may take. A container whose calls take more may get one call in flight. Most calls take a third
 * of it. On a slow, busy machine they take all of it, and the limit costs a container little there.
 */
export const IN_TURN_MS = 0.25
/**
 * The time that a call may take before its container is served at the normal priority, where it waits for tasks with a
 * higher one. No normal call takes so long. Calls made to be expensive take 10 to 10,000 ms.
 */
export const SLOW_MS = 1
/** Beyond that time, a container's calls may take a tenth of one processor. */
const PARTS = 10
/**
 * So much may be owed before a container is expensive: the time that pays for it, in milliseconds. This is a fifth of a
 * second of a processor, since a new thread first compiles what it runs.
 */
const BURST_MS = 2000
/** A container owes no more than this. */
const LONGEST_MS = 5000

/**
 * A rate limit for each container, on the processor time of its calls. A container can make calls that cost a
 * thousand times what others cost. So a container whose calls take more than allowed is expensive until time has paid
 * for them. One table has the containers whose calls take turns (IN_TURN_MS): such a container has one call in flight,
 * which uses at most one processor. Another has the containers with slow calls (SLOW_MS): the scheduler shares that
 * processor with others. Waiting time does not count. Cheap calls do not count either, so that no number of them hides
 * the expensive ones.
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
   * A call has taken `spent` milliseconds of processor time.
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
