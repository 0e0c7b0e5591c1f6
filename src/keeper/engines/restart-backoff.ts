/** So many engines that fail within that time are too many. */
const FAILURES = 5
const WITHIN_MS = 10_000
/** So are so many in a row that end before they serve, whoever ends them: there may be no memory for one. */
const UNREADY = 10
const PAUSE_MS = 30_000
const LONGEST_MS = 5 * 60_000

/** How an engine ended. */
interface End {
  /** Milliseconds, of any clock that does not jump. */
  readonly at: number
  /** It ended by itself. */
  readonly failed: boolean
  /** It had served before. */
  readonly wasReady: boolean
}

/** When the next engine shall start: at once, unless they end all the time. */
export class RestartBackoff {
  #failures: number[] = []
  #unready = 0
  #pause: number

  /** @param pause milliseconds of the first wait; each is twice the one before */
  constructor(pause = PAUSE_MS) {
    this.#pause = pause
  }

  /** @returns milliseconds to wait */
  after({ at, failed, wasReady }: End): number {
    this.#failures = this.#failures.filter((each) => at - each < WITHIN_MS)
    if (failed) this.#failures.push(at)
    this.#unready = wasReady ? 0 : this.#unready + 1
    if (this.#failures.length < FAILURES && this.#unready < UNREADY) return 0
    this.#failures = []
    this.#unready = 0
    const pause = this.#pause
    this.#pause = Math.min(2 * pause, LONGEST_MS)
    return pause
  }
}
