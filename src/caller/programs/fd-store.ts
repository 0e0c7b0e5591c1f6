import type { Fd, Handle } from '../../kernel/fd.ts'

/**
 * Keeps copies of descriptors that outlive this engine. A copy is identified by its place: the index of the word in
 * persistent memory that holds the descriptor's number, see engine/kept/persistent-state.ts.
 */
export interface FdStore {
  /**
   * Stores a copy of `fd`, in place of any previous copy at `place`. When the store is full, no copy is kept: the
   * descriptor, and what depends on it, then ends with the engine.
   */
  keep(place: number, fd: Handle, container: number): void
  /**
   * Stores copies, and closes the copies at the places `drops` without waiting for that: only a mount is kept busy by a
   * copy that is still open.
   */
  exchange(drops: readonly number[], copies: readonly Copy[], container: number): void
  /**
   * Closes the copies. Returns only when they are closed, since an open copy would keep a mount from being unmounted.
   */
  drop(places: readonly number[]): void
  /** Returns when all copies are closed that `exchange` dropped before. */
  settle(): void
  /**
   * Closes the copies, then the engine's own descriptors, which may hang: the last close of a file system may wait
   * for it.
   */
  end(held: readonly StoredFd[]): void
  /** Does the same, but does not wait until the engine's own descriptors are closed, which may hang for ever. */
  endLater(held: readonly StoredFd[]): void
}

/** A descriptor of which a copy is to be stored at a place. */
export interface Copy {
  readonly place: number
  readonly fd: Handle
}

/** A descriptor of this engine and the place of its copy. */
export interface StoredFd {
  readonly place: number
  readonly raw: number
}

/**
 * A range of the persistent memory and the locks that guard it. The locks are not persistent, since the threads that
 * held them have ended with the previous engine.
 */
export interface WordRange {
  /** The whole persistent memory. */
  readonly words: Int32Array
  /** The index of the first word of the range. */
  readonly from: number
  readonly locks: Int32Array
}

/**
 * Holds the descriptors that the previous engine left, by place. The caller of `take` owns the descriptor that it
 * gets.
 */
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

  /** Returns the descriptors that were not taken; the caller of this method owns them from now on. */
  rest(): readonly StoredFd[] {
    const rest = [...this.#fds].map(([place, fd]) => ({ place, raw: fd.release() }))
    this.#fds.clear()
    return rest
  }
}
