import type { Fd } from '../../kernel/fd.ts'
import type { EngineProcess } from '../engines/engine-process.ts'
import type { PersistedState, StateStore } from './persisted-state.ts'

/** The most descriptors: a container needs a few at a time (contexts, mounts, programs), and must leave us some. */
export const LIMIT = 1024
export const LIMIT_PER_CONTAINER = 64
/** The most descriptors in one message; the kernel allows 253 (SCM_MAX_FD). */
const BATCH = 128

interface Kept {
  readonly container: number
  readonly fd: Fd
}

interface Exchange {
  readonly places: readonly number[]
  readonly drops: readonly number[]
  readonly container: number
}

/** Holds copies of an engine's descriptors for the next engine, by place in the persistent state. */
export class KeeperFdTable {
  readonly #all = new Map<number, Kept>()

  /** Takes the previous keeper's descriptors out of `state`: a mount is busy as long as a copy is stored there. */
  constructor(state: PersistedState) {
    for (const { place, container, fd } of state.descriptors()) this.keep(place, container, fd)
  }

  /** Closes the copies at `drops`, then takes ownership of those for `places`. */
  exchange({ places, drops, container }: Exchange, fds: readonly Fd[]): void {
    for (const place of drops) this.#close(place)
    for (const [index, place] of places.entries()) this.keep(place, container, fds[index])
  }

  /** For each descriptor: the number of its container. */
  get containers(): readonly number[] {
    return [...this.#all.values()].map(({ container }) => container)
  }

  /** Takes ownership of a copy, and closes it if the container has too many. */
  keep(place: number, container: number, fd: Fd | undefined): void {
    this.#close(place)
    // The keeper had no free descriptor when the message came.
    if (!fd) return
    const ofContainer = [...this.#all.values()].filter((kept) => kept.container === container).length
    if (this.#all.size >= LIMIT || ofContainer >= LIMIT_PER_CONTAINER) fd[Symbol.dispose]()
    else this.#all.set(place, { container, fd })
  }

  /**
   * Closes the copies at these places. @param done closed afterwards, which tells the engine that the copies are closed
   */
  drop(places: readonly number[], done: Fd | undefined): void {
    for (const place of places) this.#close(place)
    done?.[Symbol.dispose]()
  }

  handOn(tell: EngineProcess['tell']): void {
    const all = [...this.#all]
    for (let at = 0; at < all.length; at += BATCH) {
      const batch = all.slice(at, at + BATCH)
      const fds = batch.map(([, { fd }]) => fd)
      tell({ type: 'kept', places: batch.map(([place]) => place) }, fds)
    }
  }

  /** Stores copies for the next keeper. */
  store(state: PersistedState, to: StateStore): void {
    for (const [place, kept] of this.#all) state.keepDescriptor({ place, ...kept }, to)
  }

  /** Undoes `store`, if no other keeper takes over. */
  takeBack(state: PersistedState): void {
    for (const [place, { container }] of this.#all) state.dropDescriptor(place, container)
  }

  close(): void {
    for (const place of [...this.#all.keys()]) this.#close(place)
  }

  #close(place: number): void {
    this.#all.get(place)?.fd[Symbol.dispose]()
    this.#all.delete(place)
  }
}
