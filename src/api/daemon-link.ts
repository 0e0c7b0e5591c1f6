import { now } from '../kernel/clock.ts'
import { connect, DaemonSilent, type FeedReader } from '../reader/feed.ts'
import { DAEMON_MS, HttpError } from './bounds.ts'

/** Shortest time between two attempts to reach a daemon that does not answer, which keep everybody waiting. */
const RETRY_MS = 5000
/** How long the last sign of life, a beat each second, is believed. Then the daemon is asked. */
const SILENT_MS = 1500

/** The memories of the daemon, for all requests; of the next one when this one has ended. */
export class DaemonLink {
  readonly #path: string | undefined
  #feed: FeedReader | undefined
  /** Its last number, when one came, and when somebody has looked. */
  #beat = { count: -1, since: 0, looked: 0 }
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
    const { ended, beat: count } = directory.state
    const [time, { since, looked }] = [now(), this.#beat]
    // The last beat of a daemon that hangs may have come long ago, if nobody has looked for long.
    const isFresh = count !== this.#beat.count && time - looked <= SILENT_MS
    this.#beat = { count, since: isFresh ? time : since, looked: time }
    return ended || records.isEnded || time - this.#beat.since > SILENT_MS
  }

  #renew(): void {
    try {
      const next = this.open()
      this.close()
      this.#feed = next
      this.#beat = { count: next.directory.state.beat, since: now(), looked: now() }
    } catch (error) {
      // One that is silent may give its next beat.
      if (!this.#failed) this.close()
      throw error
    }
  }
}
