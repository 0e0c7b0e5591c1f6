/**
 * none: the place has a listener, or nothing. fresh: a monitor's connection that has not forwarded a call yet. idle:
 * the monitor does not wait. serving and above: it waits, and it forwarded the call in second (word - serving).
 *
 *   none -> fresh       LxcProxyState.open()
 *   fresh -> serving    LxcProxyState.begin()
 *   idle -> serving     LxcProxyState.begin()
 *   serving -> idle     LxcProxyState.end()
 *   idle -> none        LxcProxyState.close(), as from every state
 */
const WORD = { none: 0, fresh: 1, idle: 2, serving: 3 } as const

/**
 * Holds the state of the connections of LXC's monitors: one word per listener number, in memory that all threads share.
 *
 * Invariant: the main thread opens and closes a word while no call of it is served; the thread that serves a forwarded
 * call begins and ends it; `LxcProxyDeadlines` may end it too, from the main thread.
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

  /** Returns whether `index` is a monitor's connection, and not a listener. */
  has(index: number): boolean {
    return this.#load(index) !== WORD.none
  }

  /** Returns whether the connection has not forwarded any call yet. */
  isFresh(index: number): boolean {
    return this.#load(index) === WORD.fresh
  }

  /** Marks that the monitor waits for a reply. @param age seconds since the monitor forwarded the call */
  begin(index: number, age: number): void {
    Atomics.store(this.#words, index, WORD.serving + Math.max(0, this.#seconds() - age))
  }

  end(index: number): void {
    Atomics.store(this.#words, index, WORD.idle)
  }

  /** Returns whether the monitor waits for a reply. */
  isServing(index: number): boolean {
    return this.#load(index) >= WORD.serving
  }

  /** Returns for how many seconds the monitor has been waiting; 0 if it does not wait. */
  waiting(index: number): number {
    const word = this.#load(index)
    return word < WORD.serving ? 0 : this.#seconds() - (word - WORD.serving)
  }

  #load(index: number): number {
    return Atomics.load(this.#words, index)
  }
}
