import { setAndWake, waitWhile } from './words.ts'

const OPEN = 0

/**
 * An answer that one thread gives another, once: a number other than 0, in memory that is sent with the question.
 *
 *   open -> answered      OneShot.set()
 *
 * Invariant: one thread sets it, once; any thread may wait for it.
 */
export class OneShot {
  readonly #words: Int32Array<SharedArrayBuffer>

  /**
   * @param buffer the memory of the asking thread, which makes it
   */
  constructor(buffer = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)) {
    this.#words = new Int32Array(buffer)
  }

  get buffer(): SharedArrayBuffer {
    return this.#words.buffer
  }

  /**
   * @throws {RangeError} for 0, which would look like no answer
   */
  set(answer: number): void {
    if ((answer | 0) === OPEN) throw new RangeError(`Cannot answer a thread: ${answer} is no answer`)
    setAndWake(this.#words, 0, answer)
  }

  /** Blocks until there is an answer. @returns undefined if there is none after `ms` milliseconds */
  wait(ms?: number): number | undefined {
    return waitWhile(this.#words, 0, OPEN, ms) ? Atomics.load(this.#words, 0) : undefined
  }
}
