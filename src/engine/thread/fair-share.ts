import { now } from '../../kernel/clock.ts'

/**
 * The time that a call may take: most take a tenth of it, a third on a slow machine with other work. Dear calls take 10
 * to 10,000 ms.
 */
const CALL_MS = 1
/** Beyond CALL_MS, the calls of a container may take a tenth of one processor. */
const PARTS = 10
/**
 * How much they may take at once, in milliseconds of the time that pays for it: a new thread compiles what it runs
 * first.
 */
const BURST_MS = 2000
/** A container owes no more than this: what is due later is due because the clock, of 32 bits, has begun anew. */
const LONGEST_MS = 5000

/**
 * A token bucket (GCRA) for each container, on the processor time of its calls. A container can make calls that cost a
 * thousand times what others cost. So a container whose calls take more than they may is dear, until time has paid for
 * them: it has one call in flight, which takes one processor at most, and the scheduler shares that with others. The
 * time that a call waits is not counted, nor are cheap calls, so that no number of them hides the dear ones.
 *
 * Invariant: any thread may call everything. Of two threads that charge a container at once, one may charge nothing.
 */
export class FairShare {
  /** The millisecond at which a container will have paid for what its calls took. */
  readonly #due: Int32Array

  constructor(due: Int32Array) {
    this.#due = due
  }

  /** Did a call take so little time, waiting included, that it need not be counted? @param ms the time that it took */
  static isCheap(ms: number): boolean {
    return ms <= CALL_MS
  }

  /**
   * A call has taken `spent` milliseconds of processors.
   *
   * @param at the word of the container
   */
  charge(at: number, spent: number, ms = now()): void {
    const price = Math.round(PARTS * (spent - CALL_MS))
    if (price > 0) this.#due[at] = ms + Math.min(this.#ahead(at, ms) + price, LONGEST_MS)
  }

  isDear(at: number, ms?: number): boolean {
    return this.#due[at] !== 0 && this.#ahead(at, ms ?? now()) > BURST_MS
  }

  /** Another container has this number now. */
  forget(at: number): void {
    this.#due[at] = 0
  }

  #ahead(at: number, ms: number): number {
    const ahead = (this.#due[at]! - ms) | 0
    return ahead < 0 || ahead > LONGEST_MS ? 0 : ahead
  }
}
