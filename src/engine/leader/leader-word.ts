/**
 * What the leader does. free: nobody leads. waiting: the leader waits for a call. receiving: it has seen that there is
 * one, and will serve it or share the lead: soon, or when fewer than `limits.calls` are served. serving: it serves a
 * call.
 *
 *   free -> waiting        LeaderWord.takeFrom(), by Leadership.take() of any thread, in a new term
 *   waiting -> receiving   LeaderWord.set(), by Leadership.markReceiving()
 *   receiving -> waiting   LeaderWord.set(), by Leadership.markWaiting(): the call was continued, or there was none
 *   receiving -> serving   LeaderWord.set(), by Leadership.serve()
 *   waiting -> serving     LeaderWord.set(), by Leadership.serve(), after the call was read
 *   waiting -> serving     LeaderWord.set(), by Leadership.markBusy()
 *   receiving -> serving   LeaderWord.set(), by Leadership.markBusy(), after a call that was continued
 *   serving -> waiting     LeaderWord.change(), by Leadership.rejoin() of the leader, in the same term
 *   serving -> waiting     LeaderWord.takeFrom(), by Leadership.park() of the deputy, in a new term: the leader is late
 *   receiving -> free      LeaderWord.free(), by Leadership.receiveTogether()
 *   waiting -> free        LeaderWord.free(), by Leadership.receiveTogether(), after the call was read
 *   waiting -> free        LeaderWord.free(), by Leadership.handOver()
 *   receiving -> free      LeaderWord.free(), by Leadership.handOver()
 *   serving -> free        LeaderWord.free(), by Leadership.handOver()
 */
export const LEAD = { free: 0, waiting: 1, serving: 2, receiving: 3 } as const

const STATE_BITS = 2
const STATE_MASK = 3
/** The number of terms before their numbers start again: by then no thread still holds an old term. */
const TERMS = 1 << 28

const word = (term: number, state: number): number => (term << STATE_BITS) | state

/**
 * Which thread leads, in one word that all threads share: a state, and the term in which a thread leads. Only the
 * thread that leads in a term knows its number.
 *
 * Invariant: only the thread whose term it is changes the word, except for two transitions: any thread takes it from
 * `free`, and the deputy takes it from `serving`. So in `waiting` and `receiving` the leader may `set` it, and in
 * `serving` it must `change` it, which fails once the deputy leads.
 */
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

  /**
   * Begins a new term, in which the calling thread waits.
   *
   * @returns the term; undefined if the lead is not in this state
   */
  takeFrom(state: number): number | undefined {
    const lead = this.#load()
    const term = ((lead >> STATE_BITS) + 1) % TERMS
    return (lead & STATE_MASK) === state && this.#exchange(lead, word(term, LEAD.waiting)) ? term : undefined
  }

  /** Precondition: the calling thread leads in this term, and does not serve a call. */
  set(term: number, state: number): void {
    Atomics.store(this.#words, this.#at, word(term, state))
  }

  /** @returns false if the lead is not in this term and state: the deputy has taken it */
  change(term: number, from: number, to: number): boolean {
    return this.#exchange(word(term, from), word(term, to))
  }

  /** As `change` to `free`, from any state. */
  free(term: number): boolean {
    const lead = this.#load()
    return lead >> STATE_BITS === term && this.#exchange(lead, word(term, LEAD.free))
  }

  #load(): number {
    return Atomics.load(this.#words, this.#at)
  }

  #exchange(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, this.#at, from, to) === from
  }
}
