import type { Fd } from '../../kernel/fd.ts'
import type { EngineProcess } from '../engines/engine-process.ts'
import type { PersistedState, StateStore } from './persisted-state.ts'

/** Descriptors at once: a container has a few contexts, mounts and programs for a moment, and must not take ours from others. */
const LIMIT = 1024
const LIMIT_PER_CONTAINER = 64
/** A message carries up to 253. */
const BATCH = 128

interface Kept {
  readonly container: number
  readonly fd: Fd
}

/** Descriptors that an engine has and the next one shall have too, by their places; nothing is known here of what they are for. */
export class KeeperFdTable {
  readonly #all = new Map<number, Kept>()

  /** @param state what an earlier keeper has left is taken from there: as long as it lies there, a mount is busy */
  constructor(state: PersistedState) {
    for (const { place, container, fd } of state.descriptors()) this.keep(place, container, fd)
  }

  keep(place: number, container: number, fd: Fd | undefined): void {
    this.#let(place)
    // There was none free for it here.
    if (!fd) return
    const ofContainer = [...this.#all.values()].filter((kept) => kept.container === container).length
    if (this.#all.size >= LIMIT || ofContainer >= LIMIT_PER_CONTAINER) fd[Symbol.dispose]()
    else this.#all.set(place, { container, fd })
  }

  /** @param done closed when they are */
  drop(places: readonly number[], done: Fd | undefined): void {
    for (const place of places) this.#let(place)
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

  /** Leaves copies to the next keeper. */
  store(state: PersistedState, to: StateStore): void {
    for (const [place, kept] of this.#all) state.keepDescriptor({ place, ...kept }, to)
  }

  /** Takes them back, for there is none. */
  takeBack(state: PersistedState): void {
    for (const [place, { container }] of this.#all) state.dropDescriptor(place, container)
  }

  close(): void {
    for (const place of [...this.#all.keys()]) this.#let(place)
  }

  #let(place: number): void {
    this.#all.get(place)?.fd[Symbol.dispose]()
    this.#all.delete(place)
  }
}
