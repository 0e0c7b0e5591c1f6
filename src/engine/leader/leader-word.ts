/** Of the lead. Nobody has it; or the leader waits for a call; or serves one; or has seen one and will soon serve it, or share the lead. */
export const FREE = 0
export const WAITING = 1
export const SERVING = 2
export const RECEIVING = 3

const STATE_BITS = 2
const STATE_MASK = 3
/** Terms come round after this many, long after anybody still believes in an old one. */
const TERMS = 1 << 28

const word = (term: number, state: number): number => (term << STATE_BITS) | state

/** Whose the lead is, in one word that all threads share: a state, and the term in which somebody has it. */
export class LeaderWord {
  readonly #words: Int32Array
  readonly #at: number

  constructor(words: Int32Array, at: number) {
    this.#words = words
    this.#at = at
  }

  get state(): number {
    return this.#load() & STATE_MASK
  }

  /** Takes it from whoever has it in this state, for a leader that waits. @returns the new term, or undefined if it is not so */
  takeFrom(state: number): number | undefined {
    const lead = this.#load()
    const term = ((lead >> STATE_BITS) + 1) % TERMS
    return (lead & STATE_MASK) === state && this.#exchange(lead, word(term, WAITING)) ? term : undefined
  }

  /** For who has it for sure. */
  set(term: number, state: number): void {
    Atomics.store(this.#words, this.#at, word(term, state))
  }

  /** For who has it, unless the deputy has taken it. @returns whether it is so now */
  change(term: number, from: number, to: number): boolean {
    return this.#exchange(word(term, from), word(term, to))
  }

  /** As `change` to FREE, from any state. */
  free(term: number): boolean {
    const lead = this.#load()
    return lead >> STATE_BITS === term && this.#exchange(lead, word(term, FREE))
  }

  #load(): number {
    return Atomics.load(this.#words, this.#at)
  }

  #exchange(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, this.#at, from, to) === from
  }
}
