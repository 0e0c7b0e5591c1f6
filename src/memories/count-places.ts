import type { Handle } from '../kernel/handle.ts'
import { zeroPages } from '../kernel/shared-memory.ts'
import { freeRefusals } from './count-writer.ts'
import { COUNTS_PLACE, countsPlace, HEAD_WORD } from './counts-layout.ts'
import { type ContainerCounts, readCounts } from './read-counts.ts'

/**
 * The counts of all containers as the keeper sees them: it gives the places out and takes them back.
 *
 * Preconditions: only the keeper's thread calls it; engine threads count meanwhile, but while `free` runs.
 */
export class CountPlaces {
  readonly #fd: Handle
  readonly #memory: ArrayBuffer
  readonly #words: Int32Array
  readonly #taken = new Set<number>()

  constructor(fd: Handle, memory: ArrayBuffer) {
    this.#fd = fd
    this.#memory = memory
    this.#words = new Int32Array(memory)
  }

  /** Gives a container its place, with what the previous keeper has counted for it. */
  take({ index, serial }: { readonly index: number; readonly serial: number }): void {
    const word = (countsPlace(index) >> 2) + HEAD_WORD.serial
    const before = Atomics.load(this.#words, word)
    if (before !== 0 && before !== serial) zeroPages(this.#fd, countsPlace(index), COUNTS_PLACE)
    Atomics.store(this.#words, word, serial)
    this.#taken.add(index)
  }

  read(index: number): ContainerCounts {
    return readCounts((at, length) => new DataView(this.#memory, countsPlace(index) + at, length))
  }

  /** Gives the memory of a container back. */
  leave(index: number): void {
    if (this.#taken.delete(index)) zeroPages(this.#fd, countsPlace(index), COUNTS_PLACE)
  }

  /** Frees what the threads of an engine that has ended were writing. */
  free(): void {
    freeRefusals(this.#memory, this.#taken)
  }
}
