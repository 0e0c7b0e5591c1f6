import { setTimeout as sleep } from 'node:timers/promises'

/** What tini says of a command that it cannot execute, in up to three writes. */
const OF_INIT = '[FATAL tini ('
const UNEXECUTED = /^\[FATAL tini \(\d+\)\] exec .* failed: (.+)\r?\n$/
/** crun says it moments before it logs it. */
const LOGGED_MS = 10
/** In bytes; what the two say is shorter. */
const LIMIT = 16_384

/**
 * Withholds what the runtime and the container's init say if they cannot start the command: we say it then, in one
 * sentence. A command may speak as they do, so that what is withheld is let go if the exit status tells otherwise.
 */
export class StartWords {
  readonly #hasFailed: () => boolean
  #held = Buffer.alloc(0)

  /** @param hasFailed whether the runtime has logged an error */
  constructor(hasFailed: () => boolean) {
    this.#hasFailed = hasFailed
  }

  /** Passes on a stream but for such words at its beginning. */
  async *without(from: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let isOver = false
    for await (const chunk of from) {
      if (isOver) yield chunk
      else {
        this.#held = Buffer.concat([this.#held, chunk])
        isOver = !(await this.#mayBeTheirs())
        if (isOver) yield this.#taken()
      }
    }
  }

  /** Why the init could not execute the command; undefined if it has not said so. */
  get ofInit(): string | undefined {
    return UNEXECUTED.exec(this.#held.toString())?.[1]
  }

  /** Lets go what was the command's own. */
  release(): Buffer {
    return this.#taken()
  }

  async #mayBeTheirs(): Promise<boolean> {
    const text = this.#held.toString()
    if (text.length > LIMIT) return false
    if (UNEXECUTED.test(text)) return true
    if (!text.includes('\n') && (OF_INIT.startsWith(text) || text.startsWith(OF_INIT))) return true
    if (!this.#hasFailed()) await sleep(LOGGED_MS)
    return this.#hasFailed()
  }

  #taken(): Buffer {
    const taken = this.#held
    this.#held = Buffer.alloc(0)
    return taken
  }
}
