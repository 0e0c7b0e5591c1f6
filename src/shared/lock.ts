import { now } from '../kernel/clock.ts'
import { waitWhile, wake } from './words.ts'

/** awaited: held, and a thread may wait for it, which the holder must wake. */
const STATE = { free: 0, held: 1, awaited: 2 } as const

/**
 * Locks that threads of one engine hold one at a time, each a word by its index; a futex(2) mutex, so that a lock which
 * nobody waits for costs two atomic operations.
 *
 *   free -> held          Locks.tryTake()
 *   free -> awaited       Locks.take(): it has waited, and others may still wait
 *   held -> awaited       Locks.take(): the lock is another thread's
 *   held -> free          Locks.release()
 *   awaited -> free       Locks.release(): one waiting thread is woken
 *
 * Time-out: `take` gives up once the time has passed in which it did not get the lock, counted from the call, and then
 * holds nothing. Whoever holds a lock while it waits for something of a container, which may never come, has callers
 * that set a time; all other holders let go after steps of ours whose time is bounded, and their callers wait as long
 * as it takes.
 *
 * Invariant: the words lie in memory of one engine (`SharedState`), never in memory that outlives it. So what a killed
 * engine held is free for the next one; a thread that throws lets go by `finally`; one that dies without that, for want
 * of memory, ends its engine.
 */
export class Locks {
  readonly #words: Int32Array

  /** @param words zeroed at first, of a SharedArrayBuffer */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** @returns whether the calling thread holds it now */
  tryTake(lock: number): boolean {
    return Atomics.compareExchange(this.#words, lock, STATE.free, STATE.held) === STATE.free
  }

  /** Waits for up to `ms` milliseconds. @returns whether the calling thread holds it now */
  take(lock: number, ms = Number.POSITIVE_INFINITY): boolean {
    if (this.tryTake(lock)) return true
    const end = now() + ms
    for (;;) {
      // Also a thread that was woken at its last moment tries: otherwise nobody would wake the next one.
      if (Atomics.exchange(this.#words, lock, STATE.awaited) === STATE.free) return true
      const left = end - now()
      if (left <= 0) return false
      waitWhile(this.#words, lock, STATE.awaited, left)
    }
  }

  /** Precondition: the calling thread holds it. */
  release(lock: number): void {
    if (Atomics.exchange(this.#words, lock, STATE.free) === STATE.awaited) wake(this.#words, lock, 1)
  }

  /** Acts while it holds a lock, for which it waits as long as it takes. */
  during<T>(lock: number, action: () => T): T {
    this.take(lock)
    try {
      return action()
    } finally {
      this.release(lock)
    }
  }
}
