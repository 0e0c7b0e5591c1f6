import { now } from '../../kernel/clock.ts'
import { setAndWake, struct, waitWhile } from '../../shared/words.ts'

/** never: the container may have no walker. none: it is not started yet. wanted: the main thread is starting it. */
const WALKER = { never: 0, none: -1, wanted: -2 } as const
/**
 * Of each container. walker: a descriptor of the socket of its walker, or a word of WALKER. users: how many threads use
 * it now, or wait for it. used: the millisecond of the last use. pid: the process of the last walker.
 */
const [WORD, WORDS] = struct({ walker: 1, users: 1, used: 1, pid: 1 })
export const WALKER_WORDS = WORDS

/**
 * The walker of each container, as all threads know it: a descriptor of its socket, or a word of WALKER.
 *
 *   never -> none       Walkers.admit(): the container may have a walker
 *   none -> wanted      WalkerTable.want(), by the thread that asks the main thread for it
 *   wanted -> socket    Walkers.start(), by `started`
 *   wanted -> none      Walkers.start(): it could not be started
 *   wanted -> never     Walkers.start(): too many have hung, or the walker could not be hidden from the container
 *   socket -> none      Walkers.abandon(), Walkers.#ended(): it hangs, or it has ended
 *   socket -> none      Walkers.start() for another container, or a timer: it is idle
 *   socket -> never     Walkers.abandon(): too many have hung
 *   socket -> never     Walkers.forget(), as from every other state: the container is gone
 *
 * Invariant: only the main thread calls `started` and `set`; any thread calls all else. A thread reads a socket to use
 * it in `use` only. After the main thread has set another word, no thread begins to use the socket; so once `isUsed` is
 * false the walker may end. The socket itself is closed five seconds later: a message of a thread may still name its
 * number.
 */
export class WalkerTable {
  readonly #words: Int32Array

  /** @param words `WALKER_WORDS` for each container */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** The socket of a container's walker, or why there is none. */
  get(container: number): number | keyof typeof WALKER {
    const word = Atomics.load(this.#words, container * WORDS + WORD.walker)
    if (word > 0) return word
    return word === WALKER.never ? 'never' : word === WALKER.none ? 'none' : 'wanted'
  }

  set(container: number, walker: keyof typeof WALKER): void {
    setAndWake(this.#words, container * WORDS + WORD.walker, WALKER[walker])
  }

  started(container: number, socket: number, pid: number): void {
    Atomics.store(this.#words, container * WORDS + WORD.pid, pid)
    Atomics.store(this.#words, container * WORDS + WORD.used, now())
    setAndWake(this.#words, container * WORDS + WORD.walker, socket)
  }

  /** The process of the last walker of a container. */
  pid(container: number): number {
    return Atomics.load(this.#words, container * WORDS + WORD.pid)
  }

  /** Runs an action that uses the walker of a container, which goes on meanwhile. */
  use<T>(container: number, action: () => T): T {
    const at = container * WORDS
    // This comes first: either the main thread sees us, or we see what it has set before it looked.
    Atomics.add(this.#words, at + WORD.users, 1)
    try {
      return action()
    } finally {
      Atomics.store(this.#words, at + WORD.used, now())
      Atomics.sub(this.#words, at + WORD.users, 1)
    }
  }

  isUsed(container: number): boolean {
    return Atomics.load(this.#words, container * WORDS + WORD.users) > 0
  }

  /** The milliseconds since the walker was used last; the clock in the table has 32 bits. */
  idleFor(container: number): number {
    return (now() - Atomics.load(this.#words, container * WORDS + WORD.used)) | 0
  }

  /** @returns whether the calling thread must ask the main thread for the walker */
  want(container: number): boolean {
    const at = container * WORDS + WORD.walker
    return Atomics.compareExchange(this.#words, at, WALKER.none, WALKER.wanted) === WALKER.none
  }

  /** Blocks while the walker is being started. @param timeout milliseconds */
  await(container: number, timeout: number): void {
    waitWhile(this.#words, container * WORDS + WORD.walker, WALKER.wanted, timeout)
  }
}
