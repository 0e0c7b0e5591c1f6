/** none: a listener, which no monitor of LXC stands before. fresh: a connection that has not forwarded a call yet. */
const WORD = { none: 0, fresh: 1, idle: 2, serving: 3 } as const

/**
 * What the connections of LXC's monitors do, in memory that the threads share: a word for each place of a listener. While a
 * call is being served it is the second of the process at which the monitor forwarded it, and WORD.serving.
 */
export class LxcProxyState {
  readonly #words: Int32Array
  readonly #seconds: () => number

  constructor(words: Int32Array, seconds: () => number) {
    this.#words = words
    this.#seconds = seconds
  }

  open(index: number): void {
    Atomics.store(this.#words, index, WORD.fresh)
  }

  close(index: number): void {
    Atomics.store(this.#words, index, WORD.none)
  }

  /** Is there a connection at this place, not a listener? */
  has(index: number): boolean {
    return this.#load(index) !== WORD.none
  }

  /** Was nothing forwarded yet? */
  isFresh(index: number): boolean {
    return this.#load(index) === WORD.fresh
  }

  /** @param age of the call, in seconds */
  begin(index: number, age: number): void {
    Atomics.store(this.#words, index, WORD.serving + Math.max(0, this.#seconds() - age))
  }

  end(index: number): void {
    Atomics.store(this.#words, index, WORD.idle)
  }

  /** Does the monitor wait for a reply? */
  isServing(index: number): boolean {
    return this.#load(index) >= WORD.serving
  }

  /** For how many seconds the monitor has been waiting; 0 if it does not wait. */
  waiting(index: number): number {
    const word = this.#load(index)
    return word < WORD.serving ? 0 : this.#seconds() - (word - WORD.serving)
  }

  #load(index: number): number {
    return Atomics.load(this.#words, index)
  }
}
