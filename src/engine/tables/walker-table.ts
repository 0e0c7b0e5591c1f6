import { setAndWake, waitWhile } from '../../shared/words.ts'

/** never: the container may have no walker. none: it is not started yet. wanted: the main thread is starting it. */
const WALKER = { never: 0, none: -1, wanted: -2 } as const

/**
 * The walker of each container, as all threads know it: a descriptor of its socket, or a word of WALKER.
 *
 *   never -> none       Walkers.admit(): the container may have a walker
 *   none -> wanted      WalkerTable.want(), by the thread that asks the main thread for it
 *   wanted -> socket    Walkers.start()
 *   wanted -> none      Walkers.start(): it could not be started
 *   wanted -> never     Walkers.start(): too many have hung, or the walker could not be hidden from the container
 *   socket -> none      Walkers.abandon(), Walkers.#ended(): it hangs, or it has ended
 *   socket -> never     Walkers.abandon(): too many have hung
 *   socket -> never     Walkers.forget(), as from every other state: the container is gone
 *
 * Invariant: only the main thread calls `set`; any thread may call everything else. A thread uses a socket at once
 * after it has read it: the main thread closes the socket five seconds after it has set another word.
 */
export class WalkerTable {
  readonly #words: Int32Array

  /** @param words a word for each container */
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
    setAndWake(this.#words, container, typeof walker === 'number' ? walker : WALKER[walker])
  }

  /** @returns whether the calling thread must ask the main thread for the walker */
  want(container: number): boolean {
    return Atomics.compareExchange(this.#words, container, WALKER.none, WALKER.wanted) === WALKER.none
  }

  /** Blocks while the walker is being started. @param timeout milliseconds */
  await(container: number, timeout: number): void {
    waitWhile(this.#words, container, WALKER.wanted, timeout)
  }
}
