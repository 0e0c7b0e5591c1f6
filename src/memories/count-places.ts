import type { Handle } from '../kernel/handle.ts'
import { zeroPages } from '../kernel/shared-memory.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { forgetRefused, freeRefusals } from './count-writer.ts'
import { COUNTS_PLACE, COUNTS_WORD, countsPlace, HEAD_WORD } from './counts-layout.ts'
import { EndedCounts } from './ended-counts.ts'
import { type ContainerCounts, readCounts } from './read-counts.ts'

/**
 * The counts of all containers as the keeper sees them: it assigns the places and takes them back.
 *
 * Preconditions: only the keeper's thread calls it; engine threads may count meanwhile, except while `free` runs.
 */
export class CountPlaces {
  readonly #fd: Handle
  readonly #memory: ArrayBuffer
  readonly #words: Int32Array
  readonly #ended: EndedCounts
  readonly #taken = new Set<number>()

  constructor(fd: Handle, memory: ArrayBuffer) {
    this.#fd = fd
    this.#memory = memory
    this.#words = new Int32Array(memory)
    this.#ended = new EndedCounts(memory)
    // The previous keeper may have ended in the middle of a move.
    Atomics.and(this.#words, COUNTS_WORD.version, ~1)
  }

  /** Gives a container its place, with the counts of the previous keeper. */
  take({ index, serial }: { readonly index: number; readonly serial: number }): void {
    const word = (countsPlace(index) >> 2) + HEAD_WORD.serial
    const before = Atomics.load(this.#words, word)
    if (before !== 0 && before !== serial) this.#clear(index)
    Atomics.store(this.#words, word, serial)
    this.#taken.add(index)
  }

  read(index: number): ContainerCounts {
    return readCounts((at, length) => new DataView(this.#memory, countsPlace(index) + at, length))
  }

  /**
   * Writes for each container how many of its calls may hang, or how many descriptors are kept for it.
   *
   * @param containers for each call or descriptor, the number of its container
   */
  note(what: 'stuck' | 'kept', containers: readonly number[]): void {
    const counts = new Map<number, number>()
    for (const index of containers) counts.set(index, (counts.get(index) ?? 0) + 1)
    for (const index of this.#taken) {
      const [word, count] = [(countsPlace(index) >> 2) + HEAD_WORD[what], counts.get(index) ?? 0]
      if (Atomics.load(this.#words, word) !== count) Atomics.store(this.#words, word, count)
    }
  }

  /** Gives back the memory of a container. */
  leave(index: number): void {
    if (this.#taken.delete(index)) this.#clear(index)
  }

  /** Adds a container's counts to those of all ended containers, and zeroes them. */
  #clear(index: number): void {
    Atomics.add(this.#words, COUNTS_WORD.version, 1)
    this.#ended.add(countsPlace(index))
    zeroPages(this.#fd, countsPlace(index), COUNTS_PLACE)
    Atomics.add(this.#words, COUNTS_WORD.version, 1)
  }

  /** Erases kept arguments of calls that a mode does not allow. */
  forgetArguments(mode: ArgumentMode): void {
    forgetRefused(this.#memory, this.#taken, mode)
  }

  /** Frees the places in which threads of an ended engine were writing. */
  free(): void {
    freeRefusals(this.#memory, this.#taken)
  }
}
