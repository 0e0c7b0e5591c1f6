import { once } from 'node:events'
import { errnos } from '../abi/errno.ts'
import { syscallNames } from '../abi/syscalls.ts'
import { escaped, isoTime, shownJson } from '../calls/escape.ts'
import { reasonCodes } from '../calls/reasons.ts'
import { WORDS } from '../calls/record.ts'
import { EVENT_TYPES } from '../memories/directory.ts'
import { type ContainerView, RUN } from '../reader/container-fields.ts'
import { earlierOf } from '../reader/container-view.ts'
import {
  concerns,
  EventStream,
  type EventView,
  lastOf,
  parseCursor,
  READER_TYPES,
  shownSince,
} from '../reader/event-stream.ts'
import type { FeedReader } from '../reader/feed.ts'
import { pastEvents } from '../reader/history.ts'
import { briefly, didYouMean } from '../shared/texts.ts'
import { EVENTS_TAIL, FORMATS } from './formats.ts'
import {
  endWithReader,
  type Feeds,
  formatContainer,
  openFeed,
  openFeeds,
  openRunOf,
  type ReadOptions,
  requireContainer,
} from './open-feed.ts'
import { byTemplate, formatCaller, formatValue, type OutputFormat, parseFormat } from './output-format.ts'
import { print, say } from './print.ts'
import { asUsage, UsageError } from './usage.ts'

/** What a filter may ask for. */
const FIELDS = [
  'container',
  'name',
  'image',
  'namespace',
  'pod',
  'syscall',
  'verdict',
  'reason',
  'errno',
  'call',
  'comm',
  'pid',
  'type',
] as const
type Field = (typeof FIELDS)[number]
/** What the field of a call can be at all: a word that no event has is a slip. */
const VALUES: { readonly [Name in Field]?: readonly string[] } = {
  type: [...READER_TYPES, ...EVENT_TYPES],
  syscall: syscallNames,
  verdict: Object.values(WORDS),
  reason: reasonCodes,
  errno: Object.keys(errnos),
}
/** What has no name has a number. */
const UNNAMED: { readonly [Name in Field]?: RegExp } = { errno: /^errno \d+$/, syscall: /^(syscall_)?\d+$/ }
/** So many values are listed in a sentence. */
const FEW = 10
/** In characters: an expression that a person types. */
const PATTERN_LIMIT = 256

type EventFilter = (event: EventView) => boolean

/**
 * Reads filters such as `verdict=left`, `syscall!=mknod`, `reason~device`, several with a comma between them. An event
 * must match all of them.
 *
 * @throws {UsageError} that says what is wrong
 */
function parseFilters(given: readonly string[]): EventFilter {
  const filters = given.flatMap((text) => text.split(',')).map(parseOne)
  return (event) => filters.every((matches) => matches(event))
}

function parseOne(text: string): EventFilter {
  const [, name, operator, value] = /^\s*([a-z]+)\s*(!=|=|~)\s*(.+?)\s*$/i.exec(text) ?? []
  const wrong = (why: string): UsageError =>
    new UsageError(
      `Cannot use --filter ${briefly(text)}: ${why}; it is FIELD=VALUE, FIELD!=VALUE or FIELD~EXPRESSION with a field of ${FIELDS.join(', ')}`,
    )
  if (name === undefined) throw wrong('it has no operator')
  if (!FIELDS.includes(name as Field)) throw wrong(`there is no field ${briefly(name)}`)
  const textOf = (event: EventView): string => String(event[name as Field] ?? '')
  if (operator === '~') {
    const expression = expressionOf(value!, wrong)
    return (event) => expression.test(textOf(event))
  }
  const flaw = slipIn(name as Field, value!)
  if (flaw !== undefined) throw wrong(flaw)
  const isSame = (event: EventView): boolean =>
    textOf(event) === value || (name === 'container' && textOf(event).startsWith(value!))
  return operator === '=' ? isSame : (event) => !isSame(event)
}

/** Says why no event has this value; undefined if one may. */
function slipIn(name: Field, value: string): string | undefined {
  const values = VALUES[name]
  if (values === undefined || values.includes(value) || UNNAMED[name]?.test(value)) return undefined
  const none = `there is none of that name${didYouMean(value, values)}`
  const which = values.length > FEW ? none : `it may be ${values.join(', ')}`
  return `no ${name} is ${briefly(value)}: ${which}`
}

function expressionOf(text: string, wrong: (why: string) => UsageError): RegExp {
  if (text.length > PATTERN_LIMIT) throw wrong(`the expression has more than ${PATTERN_LIMIT} characters`)
  try {
    return new RegExp(text)
  } catch (error) {
    throw wrong((error as Error).message)
  }
}

interface EventsOptions extends ReadOptions {
  readonly since?: number
  readonly after?: string
  readonly tail?: number
  readonly follow: boolean
  readonly filter?: readonly string[]
}

/** A flood is counted, not shown: nobody reads so fast. */
const RATE = 2000

/** The calls that may answer with a descriptor, or a size, whose number is not recorded. */
const GIVES: ReadonlySet<string | undefined> = new Set(['bpf', 'fsopen', 'fsmount', 'fspick', 'getxattr', 'listxattr'])

/** The kernel's own answer to a call that was left is not known: it is judged after us. */
function result({ verdict, errno, microseconds, syscall, count }: EventView): string {
  const took = count === undefined ? ` <${((microseconds ?? 0) / 1e6).toFixed(6)}>` : ` x${count}`
  if (verdict === 'left') return `= ? (left to the kernel)${took}`
  if (verdict === 'gone') return `= ? (the caller is gone)${took}`
  if (errno) return `= -1 ${errno}${took}`
  return GIVES.has(syscall) ? `= ? (not recorded)${took}` : `= 0${took}`
}

const timeOf = ({ time }: EventView): string => `${isoTime(time)}`

const containerOf = (event: EventView): string => formatContainer({ ...event, id: event.container })

/** A line as strace(1) prints it, with the container in place of the process. */
const straceLine = (event: EventView): string =>
  event.call !== undefined
    ? `[${containerOf(event) || '?'}]${event.pid === undefined ? '' : ` [pid ${event.pid}]`} ${timeOf(event).slice(11, 23)} ${event.call} ${result(event)}`
    : `[${containerOf(event)}] ${timeOf(event).slice(11, 23)} +++ ${escaped(event.message ?? event.type)} +++`

function tableLine(event: EventView): string {
  const head = `${timeOf(event)}  ${containerOf(event) || '-'}`
  if (event.call === undefined) return `${head}  ${event.type}: ${escaped(event.message ?? '')}`
  const { verdict, errno, call, says, remedy, reason, count, first } = event
  const times =
    count === undefined
      ? ''
      : `  ${count === 1 ? 'once' : `${count} times`}${first === undefined || count === 1 ? '' : `, from ${first} on`}`
  const why = reason === 'done' ? '' : `  ${formatValue(says)}${remedy ? `; ${formatValue(remedy)}` : ''}`
  return `${head}  ${verdict}${errno ? ` ${errno}` : ''}  ${call}${formatCaller(event)}${times}${why}`
}

function lineOf(format: OutputFormat, event: EventView): string {
  if (format.kind === 'json') return shownJson(event)
  if (format.kind === 'strace') return straceLine(event)
  return format.kind === 'template' ? byTemplate(format.template, { ...event }) : tableLine(event)
}

export async function eventsCommand(word: string | undefined, options: EventsOptions): Promise<void> {
  const { since, after, tail, follow, filter = [] } = options
  const format = parseFormat(options.format, FORMATS.events)
  const matches = parseFilters(filter)
  if (after !== undefined) asUsage(() => parseCursor(after), Error)
  const { ids, connect, lastWords, missing, past: known = [], calls } = eventSource(word, options)
  const first = after === undefined ? (tail ?? (since === undefined && follow ? EVENTS_TAIL : undefined)) : undefined
  const end = new AbortController()
  process.on('SIGTERM', () => end.abort())
  process.stdout.on('error', () => end.abort())
  const isWanted = (event: EventView): boolean =>
    (since === undefined || event.time >= since) &&
    (ids === undefined || ids.some((id) => concerns(event, id))) &&
    matches(event)
  let [isNothing, shownCalls] = [true, 0]
  const show = (events: readonly EventView[]): void => {
    if (events.length === 0) return
    isNothing = false
    shownCalls += events.filter(({ call }) => call !== undefined).length
    // In one piece, since each write is a call of the kernel.
    print(events.map((event) => `${lineOf(format, event)}\n`).join(''))
  }
  const past = known.filter(isWanted)
  if (first === undefined || missing) show(first === undefined ? past : lastOf(past, first))
  if (missing) throw missing
  endWithReader()
  const isAll = since === undefined && ids === undefined && filter.length === 0
  const wanted = isAll ? undefined : isWanted
  using stream = new EventStream({ connect, follow, rate: RATE, after, tail: first, wanted, lastWords })
  let isFirst = first !== undefined
  for await (const batch of stream.batches(end.signal)) {
    // What is asked for of the past may be in history, or still shown.
    show(isFirst ? lastOf([...past, ...batch], first!) : batch)
    isFirst = false
    await written(end.signal)
  }
  if (isNothing && format.kind === 'table' && !end.signal.aborted)
    say(since === undefined ? 'No event matches; --since 1d looks in history too' : 'No event matches')
  // With a filter or --tail, fewer are wanted.
  if (calls !== undefined && calls > shownCalls && !follow && since === undefined)
    say(
      'Earlier calls are not shown: others came after them, and the daemon keeps only the last; --since 1d shows refusals',
    )
  // What nobody has read by then would keep the process.
  if (end.signal.aborted && process.stdout.writableLength > 0) process.exit()
}

/** Waits while who reads the output is slower than we are: what waited for it would fill the memory. */
async function written(signal: AbortSignal): Promise<void> {
  if (!process.stdout.writableNeedDrain || signal.aborted) return
  // Its error has a listener of its own, and its end is that of the stream.
  await once(process.stdout, 'drain', { signal }).catch(() => {})
}

/** Where the events of a container are. */
interface Source {
  /** The container, and those that had its name before; and the ids of all of them. */
  readonly views?: readonly ContainerView[]
  readonly ids?: readonly string[]
  connect(): FeedReader
  readonly lastWords?: string
  /** What history has, if it is asked for. */
  readonly past?: readonly EventView[]
  /** How many calls the container has made, if some may be overwritten: the ring is that of all containers. */
  readonly calls?: number | undefined
  /** Why the daemon cannot be read, if that was found out already: who asks one that hangs waits. */
  readonly missing?: Error | undefined
}

function eventSource(
  word: string | undefined,
  { since, after, feed: path, history }: Pick<EventsOptions, 'since' | 'after' | 'feed' | 'history'>,
): Source {
  const connect = (): FeedReader => openFeed(path)
  const from = after === undefined ? since : undefined
  if (word === undefined && from === undefined) return { connect }
  using feeds = openFeeds(path, { directory: history, since: from })
  const which: Partial<Source> = word === undefined ? {} : containerSource(feeds, word)
  if (which.lastWords !== undefined) return { connect, ...which }
  const { daemon, missing, historyAt } = feeds
  if (from !== undefined && feeds.keepsNone)
    say('The daemon keeps no history: what happened before the first line is not known')
  if (from === undefined) return { connect, ...which, missing }
  const until = daemon ? shownSince(daemon) : { calls: Number.POSITIVE_INFINITY, events: Number.POSITIVE_INFINITY }
  const past = pastEvents(feeds.past(from), until)
  return {
    connect,
    ...which,
    past,
    missing: missing && historyAt !== undefined ? onlyHistory(missing, historyAt) : missing,
  }
}

const onlyHistory = ({ message }: Error, at: string): Error =>
  new Error(`${message}; only history in ${briefly(at)} is shown`)

/** Finds the container that a word means, and after it those that had its name before. */
export function containerSource(feeds: Feeds, word: string): Partial<Source> & Required<Pick<Source, 'views' | 'ids'>> {
  const all = feeds.containers(true, 0, word)
  const view = requireContainer(feeds, word, all)
  const views = [view, ...earlierOf(all, view, word)]
  const ids = [...new Set(views.map(({ id }) => id))]
  if (view.runtime === RUN) return { views, ids, connect: () => openRunOf(view.id), lastWords: 'the run has ended' }
  return { views, ids, calls: (feeds.daemon?.records.oldest ?? 0) > 0 ? view.calls : undefined }
}
