/** never: there may be none. none: not started yet. wanted: the main thread is starting it. */
const WALKER = { never: 0, none: -1, wanted: -2 } as const

/**
 * The walker of each container, as all threads know it: a descriptor of its socket, or a word of WALKER.
 *
 * none --want()--> wanted --set(socket)--> socket --set('none' | 'never')--> none, never
 */
export class WalkerTable {
  readonly #words: Int32Array

  /** @param words one for each container */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** The socket of a container's walker, or why there is none. */
  get(container: number): number | keyof typeof WALKER {
    const word = Atomics.load(this.#words, container)
    if (word > 0) return word
    return word === WALKER.never ? 'never' : word === WALKER.none ? 'none' : 'wanted'
  }

  set(container: number, walker: number | keyof typeof WALKER): void {
    Atomics.store(this.#words, container, typeof walker === 'number' ? walker : WALKER[walker])
    Atomics.notify(this.#words, container)
  }

  /** @returns whether this thread is the one to ask for it */
  want(container: number): boolean {
    return Atomics.compareExchange(this.#words, container, WALKER.none, WALKER.wanted) === WALKER.none
  }

  /** Blocks while the walker is being started. @param timeout milliseconds */
  await(container: number, timeout: number): void {
    Atomics.wait(this.#words, container, WALKER.wanted, timeout)
  }
}
