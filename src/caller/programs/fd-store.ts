import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'

/**
 * Keeps copies of descriptors beyond the end of this engine. Each has a place: the word of the lasting memory in which its
 * number stands, see engine/kept/persistent-state.ts.
 */
export interface FdStore {
  /** Replaces what is there. What is one too many is not kept: it ends with the engine, and so does what it is for. */
  keep(place: number, fd: Handle, container: number): void
  /** Closes the copies. @returns once that is done: before, a mount could not be unmounted */
  drop(places: readonly number[]): void
  /** Drops the copies, then closes ours: whoever is the last to close a file system may have to wait for it, and hang. */
  end(held: readonly StoredFd[]): void
}

/** The number of a descriptor of ours, and its place. */
export interface StoredFd {
  readonly place: number
  readonly raw: number
}

/** Where something lies in the lasting memory, and the locks for it, which do not last: who had one has ended. */
export interface WordRange {
  /** All of the memory. */
  readonly words: Int32Array
  /** The word at which it begins. */
  readonly from: number
  readonly locks: Int32Array
}

/** What an engine before this one has left, by place. Whoever takes one owns it. */
export class InheritedFds {
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

  /** What nobody has taken; the caller's from now on. */
  rest(): readonly StoredFd[] {
    const rest = [...this.#fds].map(([place, fd]) => ({ place, raw: fd.release() }))
    this.#fds.clear()
    return rest
  }
}
