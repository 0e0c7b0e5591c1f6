import { now } from '../../kernel/clock.ts'

/** What a call may cost: most take a tenth of that, a third on a slow machine that others use too. Dear ones take 10 to 10,000. */
const CALL_MS = 1
/** What is beyond that each container may have as much of as a tenth of a processor gives. */
const PARTS = 10
/** As much at once, in milliseconds of the time that pays for it: a new thread compiles what it runs first. */
const BURST_MS = 2000
/** What is due later than that is forgotten. */
const LONGEST_MS = 5000

/**
 * How much processor time the calls of each container take. A container can make calls that cost a thousand times what others
 * cost. So one whose calls take more than they may is dear, until time has paid for it: it has one call in flight, which takes
 * one processor at most, and the scheduler shares that with others. What a call waits is not counted, nor are cheap calls, so
 * that no number of them hides the dear ones.
 */
export class FairShare {
  /** At which millisecond a container will have paid for what it had. */
  readonly #due: Int32Array

  constructor(due: Int32Array) {
    this.#due = due
  }

  /** Is it so little, seen from outside, that it need not be counted? @param ms that a call took */
  static isCheap(ms: number): boolean {
    return ms <= CALL_MS
  }

  /** A call has taken so many milliseconds of processors. @param at of the container */
  charge(at: number, spent: number, ms = now()): void {
    const price = Math.round(PARTS * (spent - CALL_MS))
    // Two threads at once may count one call.
    if (price > 0) this.#due[at] = ms + Math.min(this.#ahead(at, ms) + price, LONGEST_MS)
  }

  isDear(at: number, ms?: number): boolean {
    return this.#due[at] !== 0 && this.#ahead(at, ms ?? now()) > BURST_MS
  }

  /** A new container has this number. */
  forget(at: number): void {
    this.#due[at] = 0
  }

  #ahead(at: number, ms: number): number {
    const ahead = (this.#due[at]! - ms) | 0
    return ahead < 0 || ahead > LONGEST_MS ? 0 : ahead
  }
}
