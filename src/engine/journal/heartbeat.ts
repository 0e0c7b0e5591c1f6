import { BEAT } from './layout.ts'

/** The sign that an engine gives as long as it serves, in the header of the shared memory. */
export class Heartbeat {
  readonly #words: Int32Array

  constructor(memory: ArrayBuffer) {
    this.#words = new Int32Array(memory)
  }

  give(): void {
    Atomics.add(this.#words, BEAT, 1)
  }

  /** How often it was given. */
  get count(): number {
    return Atomics.load(this.#words, BEAT)
  }
}
