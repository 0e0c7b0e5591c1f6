import { threadTime } from '../../kernel/clock.ts'

/**
 * Lets one thread work for containers in turn: one piece of work at a time, and it reads messages between two pieces.
 * So a container waits for one piece of each other container, however many pieces those have asked for. Each piece is
 * charged to its container: see `FairShare`.
 *
 * Invariant: an object belongs to one thread, which alone calls it.
 */
export class FairTurns {
  /** Waiting work, by container; the container whose turn is next comes first. */
  readonly #waiting = new Map<number, (() => unknown)[]>()
  readonly #charge: (container: number, ms: number) => void
  /** Whether a piece was done since messages were last read. */
  #isOver = false

  /** @param charge called with the milliseconds of processor time that a piece has taken */
  constructor(charge: (container: number, ms: number) => void) {
    this.#charge = charge
  }

  /** Works for a container: now, unless another piece was just done. Work for one container is done in order. */
  take(container: number, work: () => unknown): void {
    if (!this.#isOver) {
      this.#do(container, work)
      return
    }
    const waiting = this.#waiting.get(container)
    if (waiting) waiting.push(work)
    else this.#waiting.set(container, [work])
  }

  /** Does the same, and resolves to the result of the work. */
  takeForResult<T>(container: number, work: () => T): Promise<T> {
    return new Promise((resolve, reject) =>
      this.take(container, () => {
        try {
          resolve(work())
        } catch (error) {
          reject(error as Error)
        }
      }),
    )
  }

  #do(container: number, work: () => unknown): void {
    this.#isOver = true
    setImmediate(() => this.#next())
    const start = threadTime()
    try {
      work()
    } finally {
      this.#charge(container, threadTime() - start)
    }
  }

  #next(): void {
    this.#isOver = false
    for (const [container, waiting] of this.#waiting) {
      const work = waiting.shift()
      this.#waiting.delete(container)
      if (waiting.length > 0) this.#waiting.set(container, waiting)
      if (work) this.#do(container, work)
      return
    }
  }
}
