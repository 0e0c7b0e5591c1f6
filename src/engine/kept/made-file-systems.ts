import { MADE_PER_CONTAINER, MADE_WORDS } from '../tables/persistent-layout.ts'

const [LOW, HIGH] = [0, 32] as const
const word = (id: bigint, shift: number): number => Number(BigInt.asIntN(32, id >> BigInt(shift)))

/**
 * The file systems that we made for each container and may change for it again, by the 64 random bits with which the
 * kernel identifies a file system. This holds no reference: once a file system is gone, no other has its id.
 *
 * Invariant: any thread may call all methods. While an id is being replaced, the old one is found, or none.
 */
export class MadeFileSystems {
  readonly #words: Int32Array
  readonly #from: number

  constructor(words: Int32Array, from: number) {
    this.#words = words
    this.#from = from
  }

  add(container: number, id: bigint): void {
    if (id === 0n) return
    const made = Atomics.add(this.#words, this.#at(container), 1) >>> 0
    const at = this.#place(container, made % MADE_PER_CONTAINER)
    Atomics.store(this.#words, at, 0)
    Atomics.store(this.#words, at + 1, word(id, HIGH))
    Atomics.store(this.#words, at, word(id, LOW))
  }

  has(container: number, id: bigint): boolean {
    if (id === 0n || Atomics.load(this.#words, this.#at(container)) === 0) return false
    const [low, high] = [word(id, LOW), word(id, HIGH)]
    for (let index = 0; index < MADE_PER_CONTAINER; index++) {
      const at = this.#place(container, index)
      if (Atomics.load(this.#words, at) === low && Atomics.load(this.#words, at + 1) === high) return true
    }
    return false
  }

  forget(container: number): void {
    this.#words.fill(0, this.#at(container), this.#at(container + 1))
  }

  #at(container: number): number {
    return this.#from + container * MADE_WORDS
  }

  #place(container: number, index: number): number {
    return this.#at(container) + 1 + 2 * index
  }
}
