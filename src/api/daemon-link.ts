import { now } from '../kernel/clock.ts'
import { stillThere } from '../processes/history-lines.ts'
import type { ContainerView } from '../reader/container-fields.ts'
import { pastViews } from '../reader/container-view.ts'
import type { Entry } from '../reader/directory-reader.ts'
import { connect, DaemonSilent, type FeedReader } from '../reader/feed.ts'
import { outlivedIn } from '../reader/history.ts'
import { DAEMON_MS, HttpError } from './bounds.ts'

/** Shortest time between two attempts to reach a daemon that does not answer, which keep everybody waiting. */
const RETRY_MS = 5000
/** How long the last sign of life, a beat each second, is believed. Then the daemon is asked. */
const SILENT_MS = 1500
/** The shortest time between two looks at what is not served, and how many times longer than a look it is. */
const LOOKS = { shortest: 5000, times: 20 }
/** How long after lines of history were lost the daemon may not have written again what is known. */
const LACKS_MS = 15_000

/** The memories of the daemon, for all requests; of the next one when this one has ended. */
export class DaemonLink {
  readonly #path: string | undefined
  #feed: FeedReader | undefined
  /** Its last number, when one came, and when somebody has looked. */
  #beat = { count: -1, since: 0, looked: 0 }
  readonly #outlived = new Outlived()
  #failed: { readonly at: number; readonly why: string } | undefined

  constructor(path: string | undefined) {
    this.#path = path
  }

  /** Returns what all requests share. @throws {HttpError} if there is no daemon */
  get feed(): FeedReader {
    if (!this.#feed || this.#isGone(this.#feed)) this.#renew()
    return this.#feed!
  }

  /** Returns the containers that no daemon serves, since theirs has ended; undefined if there is no history to tell. */
  unserved(): readonly ContainerView[] | undefined {
    return this.#outlived.of(this.feed)
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
      throw new HttpError(503, why, { cause: error })
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

/**
 * Containers that outlived their daemon. History is read once for each daemon, since only the end of one adds to them,
 * and again while it lacks lines.
 */
class Outlived {
  /** The daemon is the same after a new connection to it. */
  #daemon: string | undefined
  #entries: readonly Entry[] | undefined
  #next = 0
  #lacksUntil = 0

  of(feed: FeedReader): readonly ContainerView[] | undefined {
    const start = now()
    const isOther = feed.records.id !== this.#daemon
    if (!isOther && start < this.#next) return this.#views()
    if (isOther || start < this.#lacksUntil) this.#entries = outlivedIn(feed)
    else this.#entries = this.#entries && stillThere(this.#entries)
    if (feed.directory.daemon.historyLost !== undefined) this.#lacksUntil = start + LACKS_MS
    this.#daemon = feed.records.id
    this.#next = now() + Math.max(LOOKS.shortest, LOOKS.times * (now() - start))
    return this.#views()
  }

  #views(): readonly ContainerView[] | undefined {
    return this.#entries && pastViews(this.#entries)
  }
}
