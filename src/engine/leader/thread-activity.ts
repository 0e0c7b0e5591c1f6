import type { Tid } from '../../abi/brand.ts'
import { LIMITS } from '../../policy/limits.ts'
import { CACHE_LINE, struct } from '../../shared/words.ts'

/** The number of threads beyond one per call: the leader, its deputy, and the dedicated receiver. */
export const SPARE = 3
/** The most threads that serve, and as many lost ones. */
export const THREADS = 2 * (LIMITS.calls.to + SPARE)
/** active: how many threads are counted. lines: how many threads have a line. */
const [HEAD] = struct({ active: 1, lines: 1 })
/**
 * The line of a thread: its id, whether it is counted, the container for which it works, since which millisecond, and
 * one more than the epoch up to which it has read messages, 0 if it reads none.
 */
const [WORD] = struct({ thread: 1, counted: 1, container: 1, since: 1, heard: 1 })
/** The head has a cache line, and so have each thread and the main thread. */
export const ACTIVITY_WORDS = CACHE_LINE * (1 + THREADS + 1)

/** The container of a thread that serves no call but is away for a moment. */
export const NO_CONTAINER = -1

/**
 * A thread that serves one call for this long and is not running counts as hung, and another thread works in its place.
 * A shorter time would be wrong: the call may wait for a directory's lock whose owner only waits for a processor, and a
 * replacement thread would soon be one too many.
 */
const HANG_MS = 16

/**
 * Which threads work, and on what. A thread that waits for long is counted out, by itself before it waits or by the
 * deputy that notices, and another one works in its place. Either may come first. A thread that comes back is counted
 * in again.
 *
 *   out -> counted   ThreadActivity.come(), by the thread itself
 *   counted -> out   ThreadActivity.leave(), by the thread itself
 *   counted -> out   ThreadActivity.countOut(), ThreadActivity.countOutHanging(), by the deputy
 *
 * Invariant: only its own thread writes a line, except for `counted`, which any thread may clear, atomically: `active`
 * is the number of lines that are counted.
 */
export class ThreadActivity {
  readonly #words: Int32Array
  readonly #isRunning: (thread: Tid) => boolean
  /** Where this thread's line begins. */
  readonly self: number

  /**
   * @param words ACTIVITY_WORDS that all threads share
   * @param isRunning tells whether a thread is running, and not waiting
   */
  constructor(words: Int32Array, self: Tid, isRunning: (thread: Tid) => boolean) {
    this.#words = words
    this.#isRunning = isRunning
    this.self = CACHE_LINE * (1 + Atomics.add(words, HEAD.lines, 1))
    words[this.self + WORD.thread] = self
  }

  /** How many threads work. */
  get active(): number {
    return Atomics.load(this.#words, HEAD.active)
  }

  /** How many threads are older. */
  get age(): number {
    return this.self / CACHE_LINE - 1
  }

  /** Whether at least so many older threads work. */
  isSurplus(most: number): boolean {
    if (this.active <= most) return false
    let older = 0
    for (let line = CACHE_LINE; line < this.self; line += CACHE_LINE)
      older += Atomics.load(this.#words, line + WORD.counted)
    return older >= most
  }

  /** The thread works from now on. */
  come(): void {
    if (Atomics.load(this.#words, this.self + WORD.counted) === 1) return
    this.#words[this.self + WORD.container] = NO_CONTAINER
    Atomics.store(this.#words, this.self + WORD.counted, 1)
    Atomics.add(this.#words, HEAD.active, 1)
  }

  /** The thread waits from now on, maybe for long. */
  leave(): void {
    this.countOut(this.self)
  }

  /** The thread works for this container from now on. Other threads may see that late. @param time `now()` */
  begin(container: number, time: number): void {
    this.#words[this.self + WORD.container] = container
    this.#words[this.self + WORD.since] = Math.trunc(time)
  }

  /** The thread has read the messages up to this epoch. @param epoch undefined if it reads no more */
  hear(epoch: number | undefined): void {
    Atomics.store(this.#words, this.self + WORD.heard, epoch === undefined ? 0 : epoch + 1)
  }

  /** The most messages that any thread has not read. */
  unheard(epoch: number): number {
    const end = CACHE_LINE * (1 + Atomics.load(this.#words, HEAD.lines))
    let most = 0
    for (let line = CACHE_LINE; line < end; line += CACHE_LINE) {
      const heard = Atomics.load(this.#words, line + WORD.heard)
      if (heard !== 0) most = Math.max(most, (epoch + 1 - heard) | 0)
    }
    return most
  }

  /** @param line of a thread, as in `self` */
  isBusy(line: number): boolean {
    return this.#isRunning(this.threadOf(line))
  }

  threadOf(line: number): Tid {
    return this.#words[line + WORD.thread] as Tid
  }

  /** The container for which a thread works, or has worked last. */
  containerOf(line: number): number {
    return Atomics.load(this.#words, line + WORD.container)
  }

  /**
   * Counts out the threads that hang.
   *
   * @param idle the line of a thread that waits for calls, and nothing else
   * @param time `now()`
   * @returns their lines
   */
  countOutHanging(idle: number | undefined, time: number): number[] {
    const hanging: number[] = []
    // The words begin again every 50 days.
    const hangs = (since: number): boolean => ((Math.trunc(time) - since) | 0) >= HANG_MS
    const end = CACHE_LINE * (1 + Atomics.load(this.#words, HEAD.lines))
    for (let line = CACHE_LINE; line < end; line += CACHE_LINE) {
      if (Atomics.load(this.#words, line + WORD.counted) === 0 || line === idle) continue
      if (!hangs(Atomics.load(this.#words, line + WORD.since)) || this.isBusy(line)) continue
      if (this.countOut(line)) hanging.push(line)
    }
    return hanging
  }

  /** @returns whether the thread was counted */
  countOut(line: number): boolean {
    if (Atomics.exchange(this.#words, line + WORD.counted, 0) === 0) return false
    Atomics.sub(this.#words, HEAD.active, 1)
    return true
  }
}
