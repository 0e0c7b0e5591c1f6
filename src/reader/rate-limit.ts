import { now } from '../kernel/clock.ts'

const SECOND_MS = 1000

/** Lets a number of things pass each second, and as many at once after a second without any. */
export class RateLimit {
  readonly #rate: number
  readonly #now: () => number
  #left: number
  #since: number

  /** @param clock never goes back, in milliseconds */
  constructor(rate: number, clock: () => number = now) {
    this.#rate = rate
    this.#now = clock
    this.#left = rate
    this.#since = clock()
  }

  /** How many may pass now. */
  get left(): number {
    const time = this.#now()
    this.#left = Math.min(this.#rate, this.#left + ((time - this.#since) / SECOND_MS) * this.#rate)
    this.#since = time
    return Math.floor(this.#left)
  }

  pass(count: number): void {
    this.#left -= count
  }
}
