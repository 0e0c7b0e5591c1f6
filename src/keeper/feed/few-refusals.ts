import { isWithin } from '../log/call-log.ts'

/** How often a minute the same message passes: several sockets or runtimes may cause the same one. */
const SAME = 4

/**
 * Lets only a few refusals of hand-overs and orders through: each message a few times a minute, and a limited number in
 * all. It counts the others. A runtime that keeps failing causes the same message for ever.
 */
export class FewRefusals {
  readonly #limit: number
  readonly #said = new Map<string, number>()
  #lines = 0
  #start = Number.NEGATIVE_INFINITY
  #left = 0

  /**
   * @param limit how many pass in a minute
   */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** @returns false if the refusal is counted only */
  take(message: string, time: number): boolean {
    if (!isWithin(time, this.#start)) {
      this.#start = time
      this.#said.clear()
      this.#lines = 0
    }
    const said = this.#said.get(message) ?? 0
    if (said >= SAME || this.#lines >= this.#limit) {
      this.#left++
      return false
    }
    this.#said.set(message, said + 1)
    this.#lines++
    return true
  }

  /** Returns how many were only counted, after their minute. To be called once a second. */
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
