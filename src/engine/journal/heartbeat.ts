import { BEAT } from './layout.ts'

/**
 * Counts the beats of an engine that serves, in the journal's header. The keeper ends an engine without beats.
 *
 * Preconditions: the main thread of the engine calls `give`; the keeper reads `count`.
 */
export class Heartbeat {
  readonly #words: Int32Array

  constructor(memory: ArrayBuffer) {
    this.#words = new Int32Array(memory)
  }

  give(): void {
    Atomics.add(this.#words, BEAT, 1)
  }

  /** Returns the number of beats so far; it wraps at 32 bits. */
  get count(): number {
    return Atomics.load(this.#words, BEAT)
  }
}
