import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises'
import { errnoName } from '../abi/errno.ts'
import { syscallName } from '../abi/syscalls.ts'
import { explain } from '../calls/reasons.ts'
import { type CallRecord, callerOf, reasonOf, WORDS } from '../calls/record.ts'
import { spell } from '../calls/spell.ts'
import { now } from '../kernel/clock.ts'
import { keyNames } from '../policy/keys.ts'
import { RateLimit } from '../shared/rate-limit.ts'
import { counted } from '../shared/texts.ts'
import { type ContainerNames, type KeyEntry, namesOf, turnOnBy } from './container-fields.ts'
import type { Entry } from './directory-reader.ts'
import { type FeedReader, SILENT } from './feed.ts'
import { BATCH, type FollowedRecord, type RecordsFollower } from './records-follower.ts'

/** The types of what is no event of the daemon: calls, what history has of them, and the reader's own messages. */
export const READER_TYPES = ['call', 'refusals', 'lost', 'daemon'] as const

/** A call or an event of the daemon. Texts are not escaped: containers have chosen them. */
export interface EventView extends ContainerNames {
  /** Where to continue reading, see `EventStream`; absent before the first call, and in the reader's own messages. */
  readonly cursor?: string
  /** Milliseconds since 1970. */
  readonly time: number
  /** One of READER_TYPES or EVENT_TYPES. */
  readonly type: string
  /** Empty if it concerns no container, or one that is no longer known. */
  readonly container: string
  readonly syscall?: string
  readonly call?: string
  readonly verdict?: string
  readonly errno?: string
  readonly reason?: string
  readonly says?: string
  readonly remedy?: string
  /** The thread's id in the container, and its name, escaped like the call; if they are known. */
  readonly pid?: number
  readonly comm?: string
  readonly tid?: number
  readonly microseconds?: number
  readonly message?: string
  /** Who gave an order: the process, its terminal, and the user who logged in. */
  readonly who?: unknown
  /** Of a kind of refusals in history: how many there were, and when the first one was, in ISO 8601. */
  readonly count?: number
  readonly first?: string
  /** Of an order in history: each key with its value before and after. */
  readonly changed?: unknown
}

interface Which extends ContainerNames {
  readonly container: string
}

const NOBODY: Which = { container: '' }

/** @param here what to do in this container, where that is known */
function callEvent(cursor: string, followed: FollowedRecord, which: Which, here: string | undefined): EventView {
  const { record } = followed
  const { arch, nr, errno, verdict, reason, tid, microseconds, time } = record
  const { says, remedy: usual } = explain(reasonOf(record))
  const remedy = here ?? usual
  return {
    cursor,
    ...{ time, type: 'call', ...which, syscall: syscallName(arch, nr) ?? `${nr}`, call: spell(arch, nr, followed) },
    ...{ verdict: WORDS[verdict], ...(errno === 0 ? {} : { errno: errnoName(errno) }), reason, says },
    ...(remedy === '' ? {} : { remedy }),
    ...callerOf(record),
    ...{ tid, microseconds: Math.round(microseconds * 10) / 10 },
  }
}

const SENTENCES: Readonly<Record<string, string>> = {
  registered: 'the container is served from now on',
  resumed: 'the container continues',
  ended: 'the container has ended',
  engineStarted: 'another engine serves now',
  reloaded: 'the daemon has read its configuration again',
  started: 'the daemon serves from now on',
  restarted: 'another process of the daemon serves now',
}

export function daemonEvent({ time, type, id, message, count, who }: Entry, names: ContainerNames = {}): EventView {
  const many = Number(count)
  const lost =
    type === 'historyLost'
      ? `${counted(many, 'line')} of history could not be written`
      : `${counted(many, 'record')} ${many === 1 ? 'was' : 'were'} lost before ${many === 1 ? 'it was' : 'they were'} logged`
  return {
    ...{ time: Number(time), type: String(type), container: typeof id === 'string' ? id : '', ...names },
    message: typeof message === 'string' ? message : (SENTENCES[String(type)] ?? (count === undefined ? '' : lost)),
    ...(who === undefined ? {} : { who }),
  }
}

/** How often to look for new events, and for the end of the daemon. */
const POLL_MS = 100
/** How long a call may wait behind others until it is shown. If more calls wait, only the newest are shown. */
const DELAY_S = 2
/** How often to look for names of containers that have none. */
const LOOK_AGAIN_MS = 1000
/** How often lost calls are reported. */
const SAY_LOST_MS = 1000
const NEVER = Number.NEGATIVE_INFINITY
/** How long a daemon may miss its beat, one a second, before it is asked whether it is there. */
const SILENT_MS = 5000

export interface EventOptions {
  /** Where to continue: the cursor of the last read event. */
  readonly after?: string | undefined
  /** Connects again after the end of the daemon. @throws {Error} if it cannot */
  connect(): FeedReader
  /** The most past calls and events of those that are wanted; undefined for all. */
  readonly tail?: number | undefined
  /** Undefined for all. */
  readonly wanted?: ((event: EventView) => boolean) | undefined
  /** False to end after the past events. */
  readonly follow: boolean
  /** The most calls a second; the rest counts as lost. */
  readonly rate?: number
  /** The message at the end of the daemon if no other one follows; then the stream ends too. */
  readonly lastWords?: string | undefined
}

/** The position of the last read: a call, by its ring and number, and the number of the daemon's events. */
interface Cursor {
  readonly ring: string
  readonly sequence: number
  readonly events: number
}

/**
 * @throws {Error} if the text is not a cursor
 */
export function parseCursor(text: string): Cursor {
  const [, ring, number, events = 0] = /^([0-9a-f]{16})-(\d{1,16})(?:-(\d{1,16}))?$/.exec(text) ?? []
  if (ring === undefined)
    throw new Error(`Cannot go on after "${text}": that is no cursor; use one that "events --format json" printed`)
  return { ring, sequence: Number(number), events: Number(events) }
}

async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await pause(ms, undefined, signal && { signal })
  } catch {
    // The wait was aborted, which the caller sees.
  }
}

/** Returns the time of a call in the ring; undefined if the call is not there, or is being written. */
function timeOf(records: RecordsFollower, sequence: number): number | undefined {
  const { next, lost } = records
  records.next = sequence
  const [found] = records.read(1)
  records.next = next
  records.lost = lost
  return found?.sequence === sequence ? found.record.time : undefined
}

/** Returns the times of the oldest call and event that a daemon still shows. */
export function shownSince({ directory, records }: FeedReader): { readonly calls: number; readonly events: number } {
  const [first] = directory.ring('events', directory.oldestEvent)
  const calls = records.begun === 0 ? undefined : timeOf(records, records.oldest)
  return { calls: calls ?? Number.POSITIVE_INFINITY, events: first ? Number(first.time) : Number.POSITIVE_INFINITY }
}

/**
 * Finds out how many of the last calls and events are events.
 *
 * @param tail how many of both to show
 */
function eventsOfTail({ directory, records }: FeedReader, tail: number): number {
  const { begun, oldest } = records
  const newest = directory.ring('events', Math.max(0, directory.nextEvent - tail)).toReversed()
  // An event belongs to them if the call that would take its place is older, or there is no such call.
  const isOlder = (sequence: number, time: number): boolean =>
    sequence < oldest || (timeOf(records, sequence) ?? Number.POSITIVE_INFINITY) < time
  const count = newest.findIndex(({ time }, newer) => !isOlder(begun - (tail - newer), Number(time)))
  return count < 0 ? newest.length : count
}

/**
 * Streams calls and events of a daemon, across restarts of the daemon and its engines, and reports what was lost. Each
 * cursor says which call was read last, and how many events. Continuing after it, a reader misses none and gets none
 * twice.
 */
export class EventStream {
  readonly #options: EventOptions
  #feed: FeedReader
  /** Containers by serial, and the last one of each id. */
  readonly #known = new Map<number | string, Which>()
  /** When they were looked up, by `now()`. */
  #knownAt = NEVER
  /** What turns on the keys that are off, by container and key, and when the first was looked up. */
  readonly #turnOns = new Map<string, string | undefined>()
  #turnOnsAt = NEVER
  /** The number of the next event to read, and of the last read call. */
  #event = 0
  #call: number
  /** Messages that come before everything else. */
  #first: readonly EventView[] = []
  #lost = { said: 0, at: NEVER }
  #beat = { count: -1, since: 0 }
  /** Why there is nothing to read, once that was said. */
  #away: string | undefined
  readonly #limit: RateLimit | undefined
  /** Past calls are not a flood: calls before this one are not limited. */
  #begin: number
  /** Whether the daemon has ended, and no other one follows. */
  #isOver = false

  constructor(options: EventOptions) {
    this.#options = options
    this.#feed = options.connect()
    const { records } = this.#feed
    const { rate, follow, after } = options
    records.next = records.oldest
    if (after !== undefined) this.#goOn(parseCursor(after))
    this.#call = records.next - 1
    this.#begin = records.begun
    this.#limit =
      rate === undefined || !follow
        ? undefined
        : new RateLimit(new Int32Array(1), { unit: 1000 / rate, burst: rate, longest: 10 * rate })
  }

  /**
   * A program that continues by itself must not fail for ever because its cursor is another daemon's: the stream
   * reports it.
   */
  #goOn({ ring, sequence, events }: Cursor): void {
    const { directory, records } = this.#feed
    const rest = 'what happened after it is not known; these are all events that are left'
    if (ring !== records.id) this.#first = [noted('lost', `the cursor belongs to another daemon: ${rest}`)]
    else if (sequence >= records.begun) this.#first = [noted('lost', `there is no such call yet: ${rest}`)]
    else {
      records.next = sequence + 1
      this.#event = events > directory.nextEvent ? 0 : events
      const gone = directory.oldestEvent - this.#event
      if (gone > 0) this.#first = [noted('lost', `${gone} events of the daemon are not there any more`)]
    }
  }

  #skipTo(tail: number): void {
    const { directory, records } = this.#feed
    const events = eventsOfTail(this.#feed, tail)
    this.#event = directory.nextEvent - events
    records.next = Math.max(records.oldest, records.begun - (tail - events))
    this.#call = records.next - 1
  }

  /** @param signal ends it */
  async *events(signal?: AbortSignal): AsyncGenerator<EventView> {
    for await (const batch of this.batches(signal)) yield* batch
  }

  /** The same in batches, as they were read. If there is a tail, the first one is all of it, even if it is empty. */
  async *batches(signal?: AbortSignal): AsyncGenerator<readonly EventView[]> {
    const { after, tail, wanted, follow } = this.#options
    const isTail = after === undefined && tail !== undefined
    if (isTail) yield await this.#past(tail)
    // What came while that was read is not past.
    if (isTail && !follow) return
    while (!signal?.aborted) {
      const batch = this.#read()
      const chosen = wanted ? batch.filter(wanted) : batch
      if (chosen.length > 0) yield chosen
      if (this.#hasMore(batch)) {
        // Of a long past nothing may be wanted; other clients of the API have their turn.
        await turn()
        continue
      }
      const isLast = this.#isOver && batch.length === 0
      if (isLast) yield [noted('daemon', this.#options.lastWords!)]
      if (isLast || !follow) return
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
    const calls = records.read(this.#most())
    this.#limit?.take(0, calls.length)
    const first = this.#first
    this.#first = []
    const isEnd = calls.length === 0 || records.next >= records.begun
    return [...first, ...this.#sayLost(), ...this.#merged(calls, events, isEnd)]
  }

  /**
   * Returns the end of what is past, and of nothing that comes meanwhile. What is wanted may lie anywhere, so then all
   * of it is read.
   */
  async #past(tail: number): Promise<readonly EventView[]> {
    const { directory, records } = this.#feed
    const { wanted = () => true } = this.#options
    if (tail === 0 || !this.#options.wanted) this.#skipTo(tail)
    this.#begin = records.begun
    const events = directory.ring('events', this.#event)
    let last: readonly EventView[] = []
    for (let isEnd = false; !isEnd; ) {
      const calls = records.read(this.#begin - records.next)
      // A call whose writer has died is not waited for.
      isEnd = calls.length === 0 || records.next >= this.#begin
      const batch = this.#merged(
        calls,
        events.filter(({ number }) => Number(number) >= this.#event),
        isEnd,
      )
      last = lastOf([...last, ...batch.filter(wanted)], tail)
      // Other clients of the API have their turn.
      await turn()
    }
    // What was overwritten meanwhile is not part of the end.
    this.#lost = { said: records.lost, at: NEVER }
    return last
  }

  /**
   * Merges events between calls, which keep their order.
   *
   * @param isEnd false if newer events wait for more calls
   */
  #merged(calls: readonly FollowedRecord[], events: readonly Entry[], isEnd: boolean): readonly EventView[] {
    const merged: EventView[] = []
    let next = 0
    const upTo = (time: number): void => {
      for (; next < events.length && Number(events[next]!.time) <= time; next++) {
        this.#event = Number(events[next]!.number) + 1
        merged.push({
          ...(this.#call < 0 ? {} : { cursor: this.#cursor }),
          ...daemonEvent(events[next]!, this.#whichOf(events[next]!.id, Number(events[next]!.time))),
        })
      }
    }
    for (const call of calls) {
      upTo(call.record.time)
      this.#call = call.sequence
      const which = this.#whichOf(call.record.serial, call.record.time)
      merged.push(callEvent(this.#cursor, call, which, this.#turnOn(call.record)))
    }
    if (isEnd) upTo(Number.POSITIVE_INFINITY)
    return merged
  }

  get #cursor(): string {
    return `${this.#feed.records.id}-${this.#call}-${this.#event}`
  }

  /** Returns how many calls may be shown now. If far more have come, all except the newest are dropped. */
  #most(): number {
    const { records } = this.#feed
    if (!this.#options.follow) return Math.min(BATCH, this.#begin - records.next)
    if (!this.#limit || records.next < this.#begin) return BATCH
    const left = this.#limit.left(0)
    records.skipToNewest(Math.min(records.size / 2, left + DELAY_S * this.#options.rate!), left)
    return left
  }

  /**
   * Returns whether to continue reading at once. A flood is read in large pieces, because each look takes time from its
   * callers.
   */
  #hasMore(batch: readonly EventView[]): boolean {
    const { records } = this.#feed
    if (batch.length === 0) return false
    if (!this.#limit || records.next < this.#begin) return true
    return Math.min(this.#limit.left(0), records.begun - records.next) >= BATCH
  }

  #sayLost(): readonly EventView[] {
    const { lost } = this.#feed.records
    const { said, at } = this.#lost
    if (lost === said || (this.#options.follow && now() - at < SAY_LOST_MS)) return []
    this.#lost = { said: lost, at: now() }
    return [noted('lost', `${lost - said} calls came faster than they could be shown`)]
  }

  /**
   * Finds a container by its serial or its id. An unknown serial is not a container that may be named. A container
   * gets its name a moment after it was handed over, so where there is none yet, this looks again. Whoever is unknown
   * and had an event before the last look has been forgotten, as in most of a long past: then this looks no more.
   *
   * @param time of the event, in milliseconds since 1970
   */
  #whichOf(key: unknown, time: number): Which {
    if (typeof key !== 'number' && typeof key !== 'string') return NOBODY
    const known = this.#known.get(key)
    const passed = now() - this.#knownAt
    const isNew = known
      ? known.name === undefined && passed > LOOK_AGAIN_MS
      : Date.now() - time < passed + LOOK_AGAIN_MS
    if (!isNew) return known ?? (typeof key === 'string' ? { container: key } : NOBODY)
    const { directory } = this.#feed
    this.#known.clear()
    this.#knownAt = now()
    for (const entry of [...directory.ring('ended'), ...directory.briefContainers()]) {
      const which = { container: String(entry.id), ...namesOf(entry) }
      this.#known.set(Number(entry.serial), which).set(which.container, which)
    }
    if (!this.#known.has(key)) this.#known.set(key, typeof key === 'string' ? { container: key } : NOBODY)
    return this.#known.get(key)!
  }

  /** Says what turns on the key that is off, by what it is off in the container; undefined if that is not known. */
  #turnOn({ reason, a, container, serial }: CallRecord): string | undefined {
    const key = reason === 'keyOff' ? keyNames[a] : undefined
    if (key === undefined) return undefined
    if (now() - this.#turnOnsAt > LOOK_AGAIN_MS) {
      this.#turnOns.clear()
      this.#turnOnsAt = now()
    }
    const name = `${serial} ${key}`
    if (!this.#turnOns.has(name)) {
      const about = this.#feed.directory.container(container)
      const entry = about?.serial === serial ? (about.keys as Readonly<Record<string, KeyEntry>>)?.[key] : undefined
      this.#turnOns.set(name, entry?.value === 'false' ? turnOnBy(entry) : undefined)
    }
    return this.#turnOns.get(name)
  }

  /** Checks whether the daemon is still there, and connects again if it is not. @returns the messages about that */
  #look(): EventView | undefined {
    const { ended, beat } = this.#feed.directory.state
    if (beat !== this.#beat.count) this.#beat = { count: beat, since: now() }
    const isGone = ended || this.#feed.records.isEnded || now() - this.#beat.since > SILENT_MS
    if (!isGone) {
      const wasAway = this.#away !== undefined
      this.#away = undefined
      return wasAway ? noted('daemon', 'the daemon serves again') : undefined
    }
    if (this.#options.lastWords !== undefined) {
      // Its last events are read first.
      this.#isOver = true
      return undefined
    }
    const found = this.#reconnect()
    if (found === 'another') return noted('daemon', 'another daemon serves now')
    if (found === this.#away || found === 'the same') return undefined
    this.#away = found
    return noted('daemon', found)
  }

  /** @returns whether there is another daemon, with other memories; a sentence if there is none that answers */
  #reconnect(): string {
    try {
      const next = this.#options.connect()
      const before = this.#feed
      const isSame = next.records.id === before.records.id
      next.records.next = isSame ? before.records.next : 0
      next.records.lost = isSame ? before.records.lost : 0
      if (!isSame) {
        this.#lost = { said: 0, at: NEVER }
        this.#event = 0
        this.#call = -1
        this.#begin = next.records.begun
        this.#away = undefined
      }
      this.#feed = next
      before[Symbol.dispose]()
      return isSame ? 'the same' : 'another'
    } catch (error) {
      return (error as Error).message.includes(SILENT)
        ? `${SILENT}; waiting for it`
        : 'there is no daemon; waiting for the next one'
    }
  }
}

export const lastOf = <T>(all: readonly T[], count: number): readonly T[] => all.slice(Math.max(0, all.length - count))

/** What concerns no container, but says that events of any may be missing. */
const OF_ALL: ReadonlySet<string> = new Set(['lost', 'daemon', 'historyLost'])

/** Whether an event is about a container, or says that some of its events may be missing. */
export const concerns = ({ container, type }: EventView, id: string): boolean =>
  container === id || (container === '' && OF_ALL.has(type))

const noted = (type: string, message: string): EventView => ({ time: Date.now(), type, container: '', message })
