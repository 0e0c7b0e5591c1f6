import { now } from '../kernel/clock.ts'
import { connect, DaemonSilent, type FeedReader } from '../reader/feed.ts'
import { DAEMON_MS, HttpError } from './bounds.ts'

/** Shortest time between two attempts to reach a daemon that does not answer, which keep everybody waiting. */
const RETRY_MS = 5000
/** So long a daemon may give no beat, one a second, before it is asked again. */
const SILENT_MS = 5000
/** After so long what it has counted is no longer given out: nobody would notice that it hangs. */
const STALE_MS = 15_000

/** The memories of the daemon, for all requests; of the next one when this one has ended. */
export class DaemonLink {
  readonly #path: string | undefined
  #feed: FeedReader | undefined
  #beat = { count: -1, since: 0 }
  #failed: { readonly at: number; readonly why: string } | undefined

  constructor(path: string | undefined) {
    this.#path = path
  }

  /** Returns what all requests share. @throws {HttpError} if there is no daemon */
  get feed(): FeedReader {
    if (!this.#feed || this.#isGone(this.#feed)) this.#renew()
    return this.#feed!
  }

  /**
   * Connects for one stream, which closes it.
   *
   * @throws {HttpError} if there is no daemon, or it did not answer just now
   */
  open(): FeedReader {
    if (this.#failed && now() - this.#failed.at < RETRY_MS) throw new HttpError(503, this.#failed.why)
    try {
      return connect(this.#path, DAEMON_MS)
    } catch (error) {
      const why = (error as Error).message
      this.#failed = error instanceof DaemonSilent ? { at: now(), why } : undefined
      throw new HttpError(503, why)
    }
  }

  close(): void {
    this.#feed?.[Symbol.dispose]()
    this.#feed = undefined
  }

  #isGone({ directory, records }: FeedReader): boolean {
    const { ended, beat } = directory.state
    const time = now()
    if (beat !== this.#beat.count) this.#beat = { count: beat, since: time }
    return ended || records.isEnded || time - this.#beat.since > SILENT_MS
  }

  #renew(): void {
    try {
      const next = this.open()
      this.close()
      this.#feed = next
      this.#beat = { count: -1, since: now() }
    } catch (error) {
      // A daemon that is stopped has not ended: for a while, what it has counted so far will do.
      if (!this.#feed || !this.#failed || now() - this.#beat.since > STALE_MS) {
        this.close()
        throw error
      }
    }
  }
}
