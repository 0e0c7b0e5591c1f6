import { LISTENERS } from './limits.ts'

/** 32-bit words that a `ListenerTable` takes. */
export const LISTENER_TABLE_WORDS = 5 * LISTENERS

/**
 * What all threads know of each listener, by the keeper's number of it.
 *
 * Invariant: only the main thread writes `fd`, `container` and `generation`; it closes a descriptor only while no call and no
 * `hold` counts it in `calls`.
 */
export class ListenerTable {
  /** Its descriptor here; 0 for none. */
  readonly fd: Int32Array
  readonly container: Int32Array
  /** How often the number was used: events of an earlier listener with this number are not meant for this one. */
  readonly generation: Int32Array
  /** Calls in flight, and other uses of the descriptor. */
  readonly calls: Int32Array
  /** 1 while it waits for its container to come below the cap. */
  readonly muted: Int32Array

  /** @param words LISTENER_TABLE_WORDS */
  constructor(words: Int32Array) {
    const column = (index: number): Int32Array => words.subarray(index * LISTENERS, (index + 1) * LISTENERS)
    this.fd = column(0)
    this.container = column(1)
    this.generation = column(2)
    this.calls = column(3)
    this.muted = column(4)
  }

  /** A listener is in use, besides the calls that are counted, or no longer (-1): its descriptor stays. */
  hold(listener: number, change: 1 | -1): void {
    Atomics.add(this.calls, listener, change)
  }
}
