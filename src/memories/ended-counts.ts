import { ENDED_KINDS, endedCounts, HEAD_SIZE, KIND_SIZE, KIND_WORD, KINDS } from './counts-layout.ts'
import { OTHERS, spreadKey } from './kind-places.ts'

/** From the sum of durations on, a counter has only 64-bit numbers, as pairs of words. */
const NUMBERS = (KIND_SIZE / 4 - KIND_WORD.sum) / 2
const WORD = 2 ** 32

/**
 * The counts of all ended containers, by kind of call.
 *
 * Preconditions: only the keeper's thread writes here; readers copy, and the version in the header tells them when to
 * copy again.
 */
export class EndedCounts {
  readonly #words: Int32Array
  readonly #first: number

  constructor(memory: ArrayBuffer) {
    this.#words = new Int32Array(memory)
    this.#first = endedCounts(this.#words) >> 2
  }

  /** Adds all counters of a container. @param place where its counts begin */
  add(place: number): void {
    const first = (place + HEAD_SIZE) >> 2
    for (let index = 0; index < KINDS; index++) {
      const from = first + (index * KIND_SIZE) / 4
      const key = Atomics.load(this.#words, from)
      if (index < OTHERS) this.#sum(from, this.#at(index))
      else if (key !== 0) this.#sum(from, this.#counter(key))
    }
  }

  #at(index: number): number {
    return this.#first + (index * KIND_SIZE) / 4
  }

  /**
   * Finds the counter of a kind, or takes a free one; if there is none, the counter of all others with the same
   * verdict.
   */
  #counter(key: number): number {
    let index = spreadKey(key) % (ENDED_KINDS - OTHERS)
    for (let probe = OTHERS; probe < ENDED_KINDS; probe++) {
      const at = this.#at(OTHERS + index)
      if (this.#words[at] === 0) this.#words[at] = key
      if (this.#words[at] === key) return at
      index = (index + 1) % (ENDED_KINDS - OTHERS)
    }
    return this.#at((key >>> 1) & 3)
  }

  #sum(from: number, to: number): void {
    for (let number = 0; number < NUMBERS; number++) {
      const word = KIND_WORD.sum + 2 * number
      const sum = this.#number(from + word) + this.#number(to + word)
      this.#words[to + word] = sum % WORD
      this.#words[to + word + 1] = sum / WORD
    }
  }

  #number(word: number): number {
    return (this.#words[word]! >>> 0) + (this.#words[word + 1]! >>> 0) * WORD
  }
}
