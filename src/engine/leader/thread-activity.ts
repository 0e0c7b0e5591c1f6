import type { Tid } from '../../abi/brand.ts'

/** As many as there can be threads, as many that were lost, and the main one. */
const WORKERS = 2 * 512 + 1
/** Each has a cache line. */
const LINE = 16
export const ACTIVITY_WORDS = LINE + WORKERS * LINE

/** Of a thread that serves nobody, but is away for a moment. */
export const NO_CONTAINER = -1

const ACTIVE = 0
const LINES = 1

/** In the line of a worker: its thread, whether it is counted, for which container it works and since which millisecond. */
const THREAD = 0
const COUNTED = 1
const CONTAINER = 2
const SINCE = 3

/**
 * Whoever works for so long and does not run, hangs. Who makes a node may wait for less: for the lock of the directory, which
 * a process has that waits for a processor. Another thread in its place would only be one too many soon.
 */
const HANG_MS = 16

/**
 * Which threads work, and on what. Those that wait for long are counted out, by themselves before they wait, or by the
 * deputy that sees them: others work in their place. Either may come first, and who comes back is counted in again.
 */
export class ThreadActivity {
  readonly #words: Int32Array
  readonly #isRunning: (thread: Tid) => boolean
  /** The line of the thread that this is made for. */
  readonly self: number

  /**
   * @param words WORKER_WORDS that all threads share
   * @param isRunning has a thread work, or does it wait for something?
   */
  constructor(words: Int32Array, self: Tid, isRunning: (thread: Tid) => boolean) {
    this.#words = words
    this.#isRunning = isRunning
    this.self = LINE * (1 + Atomics.add(words, LINES, 1))
    words[this.self + THREAD] = self
  }

  /** How many work. */
  get active(): number {
    return Atomics.load(this.#words, ACTIVE)
  }

  /** The thread works from now on. */
  come(): void {
    if (Atomics.load(this.#words, this.self + COUNTED) === 1) return
    this.#words[this.self + CONTAINER] = NO_CONTAINER
    Atomics.store(this.#words, this.self + COUNTED, 1)
    Atomics.add(this.#words, ACTIVE, 1)
  }

  /** The thread waits from now on, maybe for long. */
  leave(): void {
    this.countOut(this.self)
  }

  /** The thread works for this container from now on. Whoever looks may see it late. @param time `now()` */
  begin(container: number, time: number): void {
    this.#words[this.self + CONTAINER] = container
    this.#words[this.self + SINCE] = Math.trunc(time)
  }

  isBusy(worker: number): boolean {
    return this.#isRunning(this.#words[worker + THREAD] as Tid)
  }

  /** For which container it works, or has worked last. */
  containerOf(worker: number): number {
    return Atomics.load(this.#words, worker + CONTAINER)
  }

  /**
   * Counts out who hangs.
   *
   * @param idle one that waits for calls, and nothing else
   * @param time `now()`
   * @returns for which containers they work
   */
  countOutHanging(idle: number | undefined, time: number): number[] {
    const hanging: number[] = []
    const before = Math.trunc(time) - HANG_MS
    const end = LINE * (1 + Atomics.load(this.#words, LINES))
    for (let worker = LINE; worker < end; worker += LINE) {
      if (Atomics.load(this.#words, worker + COUNTED) === 0 || worker === idle) continue
      if (Atomics.load(this.#words, worker + SINCE) > before || this.isBusy(worker)) continue
      if (this.countOut(worker)) hanging.push(this.containerOf(worker))
    }
    return hanging
  }

  /** @returns whether it was counted */
  countOut(worker: number): boolean {
    if (Atomics.exchange(this.#words, worker + COUNTED, 0) === 0) return false
    Atomics.sub(this.#words, ACTIVE, 1)
    return true
  }
}
