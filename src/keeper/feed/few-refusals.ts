import { isWithin } from '../log/call-log.ts'

/**
 * Lets few refusals of hand-overs and orders through: each message once a minute, and so many messages. The others are
 * counted: a runtime that fails all the time says the same for ever.
 */
export class FewRefusals {
  readonly #limit: number
  readonly #said = new Set<string>()
  #start = Number.NEGATIVE_INFINITY
  #left = 0

  /** @param limit how many a minute */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** @returns false if the refusal is counted only */
  take(message: string, time: number): boolean {
    if (!isWithin(time, this.#start)) {
      this.#start = time
      this.#said.clear()
    }
    const isLeft = this.#said.has(message) || this.#said.size >= this.#limit
    if (isLeft) this.#left++
    else this.#said.add(message)
    return !isLeft
  }

  /** Returns how many were only counted, once their minute is over. To be called once a second. */
  leftOut(time: number): number {
    return isWithin(time, this.#start) ? 0 : this.rest()
  }

  /** Returns how many were only counted so far. */
  rest(): number {
    const left = this.#left
    this.#left = 0
    return left
  }
}
