import { now } from '../../kernel/clock.ts'

/** At this rate they take less of the engine than calls that are answered. */
const INTERVAL_US = 2000
/** As many at once cost nothing. */
const BURST_US = 100 * INTERVAL_US
/** For as many calls as a container may have in flight by any configuration; what is due later is a clock that has come round. */
const LONGEST_US = 256 * INTERVAL_US

/**
 * How often signals have cancelled calls of a container that were being served. They cost it nothing, and us as much as others:
 * so beyond a rate, and beyond as many as were answered, each keeps its place among the calls in flight for a time, and the
 * container waits for nobody but itself. A call that is received is served at once: otherwise a timer could cancel each one.
 */
export class CancelRateLimit {
  /** At which microsecond a container will have paid for what it had. */
  readonly #due: Int32Array

  constructor(due: Int32Array) {
    this.#due = due
  }

  /** A call was cancelled. @param at of the container @returns for how many milliseconds its place must not be given to another */
  count(at: number, ms = now()): number {
    const ahead = this.#ahead(at, ms) + INTERVAL_US
    // Two threads at once may count one call.
    this.#due[at] = ms * 1000 + ahead
    return Math.max(0, ahead) / 1000
  }

  /** A call was answered: that pays for a cancelled one. */
  pay(at: number, ms = now()): void {
    if (this.#ahead(at, ms) > -BURST_US) Atomics.sub(this.#due, at, INTERVAL_US)
  }

  #ahead(at: number, ms: number): number {
    const ahead = (this.#due[at]! - ms * 1000) | 0
    return ahead < -BURST_US || ahead > LONGEST_US ? -BURST_US : ahead
  }
}
