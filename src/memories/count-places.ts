import type { Handle } from '../kernel/fd.ts'
import { zeroPages } from '../kernel/shared-memory.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { forgetRefused, freeRefusals } from './count-writer.ts'
import {
  COUNTS_PLACE,
  COUNTS_WORD,
  countsPlace,
  ENDED_KINDS,
  endedCounts,
  HEAD_SIZE,
  HEAD_WORD,
  KIND_SIZE,
  KIND_WORD,
  KINDS,
  OTHERS,
  spreadKey,
} from './counts-layout.ts'
import { type ContainerCounts, readCounts } from './read-counts.ts'

/** From the sum of durations on, a counter has only 64-bit numbers, as pairs of words. */
const NUMBERS = (KIND_SIZE / 4 - KIND_WORD.sum) / 2
const WORD = 2 ** 32

/**
 * The counts of all ended containers, by kind of call.
 *
 * Preconditions: only the keeper's thread writes here; readers copy, and the version in the header tells them when to
 * copy again.
 */
class EndedCounts {
  readonly #words: Int32Array
  readonly #first: number

  constructor(memory: ArrayBuffer) {
    this.#words = new Int32Array(memory)
    this.#first = endedCounts(this.#words) >> 2
  }

  /** Adds all counters of a container. @param place where its counts begin */
  add(place: number): void {
    const first = (place + HEAD_SIZE) >> 2
    for (let index = 0; index < KINDS; index++) {
      const from = first + (index * KIND_SIZE) / 4
      const key = Atomics.load(this.#words, from)
      if (index < OTHERS) this.#sum(from, this.#at(index))
      else if (key !== 0) this.#sum(from, this.#counter(key))
    }
  }

  #at(index: number): number {
    return this.#first + (index * KIND_SIZE) / 4
  }

  /**
   * Finds the counter of a kind, or takes a free one; if there is none, the counter of all others with the same
   * verdict.
   */
  #counter(key: number): number {
    let index = spreadKey(key) % (ENDED_KINDS - OTHERS)
    for (let probe = OTHERS; probe < ENDED_KINDS; probe++) {
      const at = this.#at(OTHERS + index)
      if (this.#words[at] === 0) this.#words[at] = key
      if (this.#words[at] === key) return at
      index = (index + 1) % (ENDED_KINDS - OTHERS)
    }
    return this.#at((key >>> 1) & 3)
  }

  #sum(from: number, to: number): void {
    for (let number = 0; number < NUMBERS; number++) {
      const word = KIND_WORD.sum + 2 * number
      const sum = this.#number(from + word) + this.#number(to + word)
      this.#words[to + word] = sum % WORD
      this.#words[to + word + 1] = sum / WORD
    }
  }

  #number(word: number): number {
    return (this.#words[word]! >>> 0) + (this.#words[word + 1]! >>> 0) * WORD
  }
}

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
