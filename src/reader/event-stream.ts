import { setTimeout as pause } from 'node:timers/promises'
import type { EventView } from './event-view.ts'
import { callEvent, daemonEvent } from './event-view.ts'
import type { FeedReader } from './feed.ts'
import { RateLimit } from './rate-limit.ts'
import { BATCH } from './records-follower.ts'

/** How often new events are looked for, and a daemon that has ended. */
const POLL_MS = 100
/** How long a call may wait to be shown because others came before it; of more than that only the newest are shown. */
const DELAY_S = 2
/** How often it is said that calls were lost. */
const SAY_LOST_MS = 1000
/** So long a daemon may give no beat, one a second, before it counts as gone. */
const SILENT_MS = 5000

export interface EventOptions {
  /** Where to go on: the cursor of the last event that was read. */
  readonly after?: string | undefined
  /** Connects anew after the end of the daemon. @throws {Error} if it cannot */
  connect(): FeedReader
  /** How many calls at most of those that are there already; undefined for all. */
  readonly tail?: number | undefined
  /** False to end with what is there. */
  readonly follow: boolean
  /** The most calls in a second; the rest is counted as lost. */
  readonly rate?: number
  /** What is said at the end of the daemon if no other one comes after it; the stream ends then too. */
  readonly lastWords?: string | undefined
}

/** @throws {Error} if the text is no cursor */
export function parseCursor(text: string): { readonly ring: string; readonly sequence: number } {
  const [, ring, number] = /^([0-9a-f]{16})-(\d{1,16})$/.exec(text) ?? []
  if (ring === undefined)
    throw new Error(`Cannot go on after "${text}": that is no cursor; take one that "events --format json" has printed`)
  return { ring, sequence: Number(number) }
}

async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await pause(ms, undefined, signal && { signal })
  } catch {
    // It is aborted, which the caller sees.
  }
}

/** Streams calls and events of a daemon, over its ends and those of its engines; what was lost is said. */
export class EventStream {
  readonly #options: EventOptions
  #feed: FeedReader
  #names = new Map<number, string>()
  #event: number
  #lost = { said: 0, at: 0 }
  #beat = { count: -1, since: 0 }
  #isAway = false
  readonly #limit: RateLimit | undefined
  /** What was there at the beginning is no flood: calls before this one are not limited. */
  #begin: number
  /** Whether the daemon has ended, and no other one comes. */
  #isOver = false

  constructor(options: EventOptions) {
    this.#options = options
    this.#feed = options.connect()
    this.#event = Math.max(0, this.#feed.directory.nextEvent - (options.tail ?? Number.POSITIVE_INFINITY))
    const { records } = this.#feed
    const begin = options.after === undefined ? undefined : parseCursor(options.after)
    if (begin?.ring === records.id) records.next = Math.min(begin.sequence + 1, records.begun)
    else
      records.next =
        options.tail === undefined ? records.oldest : Math.max(records.oldest, records.begun - options.tail)
    if (begin) this.#event = this.#feed.directory.nextEvent
    this.#begin = records.begun
    const { rate, follow } = options
    this.#limit = rate === undefined || !follow ? undefined : new RateLimit(rate)
  }

  /** @param signal ends it */
  async *events(signal?: AbortSignal): AsyncGenerator<EventView> {
    for await (const batch of this.batches(signal)) yield* batch
  }

  /** The same, as they were read: many at once if many have happened. */
  async *batches(signal?: AbortSignal): AsyncGenerator<readonly EventView[]> {
    while (!signal?.aborted) {
      const batch = this.#read()
      if (batch.length > 0) yield batch
      if (this.#hasMore(batch)) continue
      const isLast = this.#isOver && batch.length === 0
      if (isLast) yield [noted('daemon', this.#options.lastWords!)]
      if (isLast || !this.#options.follow) return
      await sleep(POLL_MS, signal)
      const said = signal?.aborted ? undefined : this.#look()
      if (said) yield [said]
    }
  }

  [Symbol.dispose](): void {
    this.#feed[Symbol.dispose]()
  }

  #read(): readonly EventView[] {
    const { directory, records } = this.#feed
    const events = directory.ring('events', this.#event)
    if (events.length > 0) this.#event = Number(events.at(-1)!.number) + 1
    const calls = records
      .read(this.#most())
      .map((each) => callEvent(records.id, each, this.#nameOf(each.record.serial)))
    this.#limit?.pass(calls.length)
    return [...this.#sayLost(), ...[...events.map(daemonEvent), ...calls].sort((one, other) => one.time - other.time)]
  }

  /** Returns how many calls may be shown now. Where far more have come, all but the newest are left out. */
  #most(): number {
    const { records } = this.#feed
    if (!this.#limit || records.next < this.#begin) return BATCH
    const { left } = this.#limit
    records.skipToNewest(Math.min(records.size / 2, left + DELAY_S * this.#options.rate!), left)
    return left
  }

  /** Returns whether to read on at once. A flood is read in large pieces: each look at it takes time of its callers. */
  #hasMore(batch: readonly EventView[]): boolean {
    const { records } = this.#feed
    if (batch.length === 0) return false
    if (!this.#limit || records.next < this.#begin) return true
    return Math.min(this.#limit.left, records.begun - records.next) >= BATCH
  }

  #sayLost(): readonly EventView[] {
    const [{ lost }, now] = [this.#feed.records, Date.now()]
    const { said, at } = this.#lost
    if (lost === said || (this.#options.follow && now - at < SAY_LOST_MS)) return []
    this.#lost = { said: lost, at: now }
    return [noted('lost', `${lost - said} calls came faster than they could be shown`)]
  }

  /** Finds the id of a container by its serial. What is not known is no container that may be named. */
  #nameOf(serial: number): string {
    const known = this.#names.get(serial)
    if (known !== undefined) return known
    const { directory } = this.#feed
    const entries = [...directory.briefContainers(), ...directory.ring('ended')]
    this.#names = new Map(entries.map((entry) => [Number(entry.serial), String(entry.id)]))
    if (!this.#names.has(serial)) this.#names.set(serial, '')
    return this.#names.get(serial)!
  }

  /** Looks whether the daemon is still there, and connects anew if it is not. @returns what is to be said of that */
  #look(): EventView | undefined {
    const { ended, beat } = this.#feed.directory.state
    const now = Date.now()
    if (beat !== this.#beat.count) this.#beat = { count: beat, since: now }
    const isGone = ended || this.#feed.records.isEnded || now - this.#beat.since > SILENT_MS
    if (!isGone) {
      const wasAway = this.#isAway
      this.#isAway = false
      return wasAway ? noted('daemon', 'the daemon serves again') : undefined
    }
    if (this.#options.lastWords !== undefined) {
      // What it has said last is read first.
      this.#isOver = true
      return undefined
    }
    if (this.#reconnect()) return noted('daemon', 'another daemon serves now')
    if (this.#isAway) return undefined
    this.#isAway = true
    return noted('daemon', 'the daemon has ended, or does not run; waiting for the next')
  }

  /** @returns whether there is another daemon, whose memories are others */
  #reconnect(): boolean {
    try {
      const next = this.#options.connect()
      const before = this.#feed
      const isSame = next.records.id === before.records.id
      next.records.next = isSame ? before.records.next : 0
      next.records.lost = isSame ? before.records.lost : 0
      if (!isSame) {
        this.#lost = { said: 0, at: 0 }
        this.#event = 0
        this.#begin = next.records.begun
        this.#isAway = false
      }
      this.#feed = next
      before[Symbol.dispose]()
      return !isSame
    } catch {
      return false
    }
  }
}

const noted = (type: string, message: string): EventView => ({ time: Date.now(), type, container: '', message })
