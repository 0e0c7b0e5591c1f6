import type { Tid } from '../abi/brand.ts'

/** Longer than any name below that is asked for: two numbers and a word. */
const LENGTH = 64

/** Names below /proc, written into memory that is made once: each is good until the next one. */
export class TaskNames {
  readonly #bytes = Buffer.alloc(LENGTH)

  /** `TID/name` and a NUL. */
  of(tid: Tid, name: string): Uint8Array {
    this.#bytes.write(`${tid}/${name}\0`, 'latin1')
    return this.#bytes
  }
}
