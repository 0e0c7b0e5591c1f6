// Persistent state and its descriptors in this process: for unit tests of what goes from engine to engine.

import {
  type Copy,
  type FdStore,
  InheritedFds,
  type StoredFd,
  type WordRange,
} from '../../src/caller/programs/fd-store.ts'
import type { Handle } from '../../src/kernel/fd.ts'
import { closeRaw, dup, type Fd } from '../../src/kernel/fd.ts'

/** As the keeper's, in this process: what an engine leaves goes to the next one. */
export class OwnVault implements FdStore {
  readonly #kept = new Map<number, Fd>()

  keep(place: number, fd: Handle): void {
    this.drop([place])
    this.#kept.set(place, dup(fd))
  }

  exchange(drops: readonly number[], copies: readonly Copy[]): void {
    this.drop(drops)
    for (const { place, fd } of copies) this.keep(place, fd)
  }

  drop(places: readonly number[]): void {
    for (const place of places) {
      this.#kept.get(place)?.[Symbol.dispose]()
      this.#kept.delete(place)
    }
  }

  /** How often somebody has waited for copies to be closed. */
  settled = 0

  settle(): void {
    this.settled++
  }

  end(held: readonly StoredFd[]): void {
    this.drop(held.map(({ place }) => place))
    for (const { raw } of held) closeRaw(raw)
  }

  /** How often `endLater` was called. */
  later = 0

  endLater(held: readonly StoredFd[]): void {
    this.later++
    this.end(held)
  }

  get places(): readonly number[] {
    return [...this.#kept.keys()].sort((a, b) => a - b)
  }

  legacy(): InheritedFds {
    return new InheritedFds(new Map([...this.#kept].map(([place, fd]) => [place, dup(fd)])))
  }
}

/** What an engine finds: the memory of the one before it, and locks of its own. */
export const placeIn = (words: Int32Array, locks: number, from = 0): WordRange => ({
  words,
  from,
  locks: new Int32Array(new SharedArrayBuffer(4 * locks)),
})
