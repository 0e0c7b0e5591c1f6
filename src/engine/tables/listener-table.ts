import { LISTENERS } from '../../link/limits.ts'
import { struct } from '../../shared/words.ts'

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
 * What all threads know about each listener, by the keeper's number for it.
 *
 * Invariant: only the main thread writes `fd`, `container`, `generation` and `dropped`. It closes a descriptor only
 * while `calls` is 0: calls and `hold` count there. Any thread changes `calls` and `muted` atomically.
 */
export class ListenerTable {
  /** Its descriptor in this process; 0 for none. */
  readonly fd: Int32Array
  readonly container: Int32Array
  /** How often the number was used: events of an earlier listener with this number do not concern the present one. */
  readonly generation: Int32Array
  /** Calls in flight, and other uses of the descriptor. */
  readonly calls: Int32Array
  /** 1 while it waits for its container to come below the cap. */
  readonly muted: Int32Array
  /** 1 if its calls are no longer received, although there may be tasks that could make some. */
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

  /**
   * Marks a listener as in use besides its counted calls, or no longer (-1): while in use, its descriptor stays open.
   */
  hold(listener: number, change: 1 | -1): void {
    Atomics.add(this.calls, listener, change)
  }
}
