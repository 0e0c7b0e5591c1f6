/** The most engines that may fail within WITHIN_MS. */
const FAILURES = 5
const WITHIN_MS = 10_000
/** The most engines in a row that may end before they serve, even by SIGKILL: there may be no memory for an engine. */
const UNREADY = 10
const PAUSE_MS = 30_000
const LONGEST_MS = 5 * 60_000

/** How an engine ended. */
interface End {
  /** Milliseconds of a clock that does not jump. */
  readonly at: number
  /** False if the engine was killed. */
  readonly failed: boolean
  /** True if the engine had served before. */
  readonly wasReady: boolean
}

/** After so long without a pause the next one is short again. */
const FORGOTTEN_MS = 60 * 60_000

/** Decides when the next engine starts: at once, or after a growing pause if engines fail all the time. */
export class RestartBackoff {
  readonly #first: number
  #failures: number[] = []
  #unready = 0
  #pause: number
  #last = 0

  /** @param pause first pause in milliseconds; each later pause is twice the previous one, up to LONGEST_MS */
  constructor(pause = PAUSE_MS) {
    this.#first = pause
    this.#pause = pause
  }

  /** @returns the pause in milliseconds, 0 for none */
  after({ at, failed, wasReady }: End): number {
    this.#failures = this.#failures.filter((each) => at - each < WITHIN_MS)
    if (failed) this.#failures.push(at)
    this.#unready = wasReady ? 0 : this.#unready + 1
    if (this.#failures.length < FAILURES && this.#unready < UNREADY) return 0
    this.#failures = []
    this.#unready = 0
    const pause = at - this.#last < FORGOTTEN_MS ? this.#pause : this.#first
    this.#pause = Math.min(2 * pause, LONGEST_MS)
    this.#last = at
    return pause
  }
}
