import { struct } from '../../shared/struct.ts'
import { LISTENERS } from './limits.ts'

/** The columns, each with a word for every listener. */
const [WORD, WORDS] = struct({
  fd: LISTENERS,
  container: LISTENERS,
  generation: LISTENERS,
  calls: LISTENERS,
  muted: LISTENERS,
  dropped: LISTENERS,
})

/** 32-bit words that a `ListenerTable` takes. */
export const LISTENER_TABLE_WORDS = WORDS

/**
 * What all threads know of each listener, by the keeper's number of it.
 *
 * Invariant: only the main thread writes `fd`, `container`, `generation` and `dropped`; it closes a descriptor only
 * while no call and no `hold` counts it in `calls`, which any thread changes atomically, as it does `muted`.
 */
export class ListenerTable {
  /** Its descriptor in this process; 0 for none. */
  readonly fd: Int32Array
  readonly container: Int32Array
  /**
   * How often the number was used: events of an earlier listener with this number are not meant for the present one.
   */
  readonly generation: Int32Array
  /** Calls in flight, and other uses of the descriptor. */
  readonly calls: Int32Array
  /** 1 while it waits for its container to come below the cap. */
  readonly muted: Int32Array
  /** 1 if no call of it is received any more, though there may be tasks that could make one. */
  readonly dropped: Int32Array

  /** @param words LISTENER_TABLE_WORDS */
  constructor(words: Int32Array) {
    const column = (at: number): Int32Array => words.subarray(at, at + LISTENERS)
    this.fd = column(WORD.fd)
    this.container = column(WORD.container)
    this.generation = column(WORD.generation)
    this.calls = column(WORD.calls)
    this.muted = column(WORD.muted)
    this.dropped = column(WORD.dropped)
  }

  /** A listener is in use, besides the calls that are counted, or no longer (-1): its descriptor stays. */
  hold(listener: number, change: 1 | -1): void {
    Atomics.add(this.calls, listener, change)
  }
}
