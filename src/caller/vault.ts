import type { Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'

/**
 * Keeps copies of descriptors beyond the end of this engine. Each has a place: the word of the lasting memory in which its
 * number stands, see engine/lasting.ts.
 */
export interface Vault {
  /** Replaces what is there. What is one too many is not kept: it ends with the engine, and so does what it is for. */
  keep(place: number, fd: Handle, container: number): void
  /** @returns once they are closed: before that a mount could not be unmounted */
  drop(places: readonly number[]): void
}

/** Where something lies in the lasting memory, and the locks for it, which do not last: who had one has ended. */
export interface Place {
  /** All of the memory. */
  readonly words: Int32Array
  /** The word at which it begins. */
  readonly from: number
  readonly locks: Int32Array
}

/** What an engine before this one has left, by place. Whoever takes one owns it. */
export class Legacy {
  readonly #fds: Map<number, Fd>

  constructor(fds: Map<number, Fd> = new Map()) {
    this.#fds = fds
  }

  add(place: number, fd: Fd): void {
    this.#fds.set(place, fd)
  }

  take(place: number): Fd | undefined {
    const fd = this.#fds.get(place)
    this.#fds.delete(place)
    return fd
  }

  /** Closes what nobody has taken. @returns its places */
  close(): readonly number[] {
    const places = [...this.#fds.keys()]
    for (const fd of this.#fds.values()) fd[Symbol.dispose]()
    this.#fds.clear()
    return places
  }
}
