import { now } from '../kernel/clock.ts'
import { wake } from './words.ts'

/** awaited: held, and a thread may wait for the lock, which the holder must wake. */
const STATE = { free: 0, held: 1, awaited: 2 } as const

/**
 * Mutexes for the threads of one engine, each a word with an index. They use futex(2), so a lock without waiting
 * threads costs two atomic operations.
 *
 *   free -> held          Locks.tryTake()
 *   free -> awaited       Locks.take(): it has waited, and others may still wait
 *   held -> awaited       Locks.take(): the lock is another thread's
 *   held -> free          Locks.release()
 *   awaited -> free       Locks.release(): one waiting thread is woken
 *
 * Time-out: `take` gives up after a time, counted from the call, and then holds nothing. If holders of a lock wait for
 * something of a container, which may never come, callers set a time. All other holders release the lock after steps of
 * ours in bounded time, and their callers wait without a limit.
 *
 * Invariant: the words are in the memory of one engine (`SharedState`), never in memory that outlives it. So the locks
 * of a killed engine are free for the next one. A thread that throws releases in `finally`. A thread that dies without
 * that, for lack of memory, ends its engine.
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
      // Even a thread that is woken at the last moment tries: otherwise no thread would wake the next one.
      if (Atomics.exchange(this.#words, lock, STATE.awaited) === STATE.free) return true
      const left = end - now()
      if (left <= 0) return false
      // Once: `waitWhile` would begin a new time at each wake-up.
      Atomics.wait(this.#words, lock, STATE.awaited, left)
    }
  }

  /** Precondition: the calling thread holds it. */
  release(lock: number): void {
    if (Atomics.exchange(this.#words, lock, STATE.free) === STATE.awaited) wake(this.#words, lock, 1)
  }

  /** Acts while it holds a lock, for which it waits without a limit. */
  during<T>(lock: number, action: () => T): T {
    this.take(lock)
    try {
      return action()
    } finally {
      this.release(lock)
    }
  }
}
