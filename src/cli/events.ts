import { once } from 'node:events'
import { escaped } from '../calls/escape.ts'
import { EventStream, parseCursor } from '../reader/event-stream.ts'
import type { EventView } from '../reader/event-view.ts'
import type { FeedReader } from '../reader/feed.ts'
import { parseFilters } from './event-filter.ts'
import { EVENTS_TAIL, FORMATS } from './formats.ts'
import { openFeed, openFeeds, openRunOf, RUN, requireContainer, shortId } from './open-feed.ts'
import {
  asJson,
  byTemplate,
  formatCaller,
  formatValue,
  type OutputFormat,
  parseFormat,
  type Row,
} from './output-format.ts'
import { print, say } from './print.ts'
import { asUsage, STATUS, UsageError } from './usage.ts'

interface EventsOptions {
  readonly since?: number
  readonly after?: string
  readonly tail?: number
  readonly follow: boolean
  readonly filter?: readonly string[]
  readonly format?: string
  readonly feed?: string
}

/** A flood is counted, not shown: nobody reads so fast. */
const RATE = 2000

/** The calls that may answer with a descriptor, or a size, whose number is not recorded. */
const GIVES: ReadonlySet<string | undefined> = new Set(['bpf', 'fsopen', 'fsmount', 'fspick', 'getxattr', 'listxattr'])

/** The kernel's own answer to a call that was left is not known: it is judged after us. */
function result({ verdict, errno, microseconds, syscall }: EventView): string {
  const took = ` <${((microseconds ?? 0) / 1e6).toFixed(6)}>`
  if (verdict === 'left') return `= ? (left to the kernel)${took}`
  if (verdict === 'gone') return `= ? (the caller is gone)${took}`
  if (errno) return `= -1 ${errno}${took}`
  return GIVES.has(syscall) ? `= ? (not recorded)${took}` : `= 0${took}`
}

const timeOf = ({ time }: EventView): string => new Date(time).toISOString()

/** A line as strace(1) prints it, with the container in place of the process. */
const straceLine = (event: EventView): string =>
  event.type === 'call'
    ? `[${shortId(event.container) || '?'}]${event.pid === undefined ? '' : ` [pid ${event.pid}]`} ${timeOf(event).slice(11, 23)} ${event.call} ${result(event)}`
    : `[${shortId(event.container)}] ${timeOf(event).slice(11, 23)} +++ ${escaped(event.message ?? event.type)} +++`

function tableLine(event: EventView): string {
  const head = `${timeOf(event)}  ${shortId(event.container) || '-'}`
  if (event.type !== 'call') return `${head}  ${event.type}: ${escaped(event.message ?? '')}`
  const { verdict, errno, call, says, remedy, reason } = event
  const why = reason === 'done' ? '' : `  ${formatValue(says)}${remedy ? `; ${formatValue(remedy)}` : ''}`
  return `${head}  ${verdict}${errno ? ` ${errno}` : ''}  ${call}${formatCaller(event)}${why}`
}

function lineOf(format: OutputFormat, event: EventView): string {
  if (format.kind === 'json') return asJson({ ...event, time: timeOf(event) })
  if (format.kind === 'strace') return straceLine(event)
  const row: Row = { ...event, time: timeOf(event) }
  return format.kind === 'template' ? byTemplate(format.template, row) : tableLine(event)
}

export async function eventsCommand(word: string | undefined, options: EventsOptions): Promise<void> {
  const { since, after, tail, follow, filter = [], feed: path } = options
  const format = parseFormat(options.format, FORMATS.events)
  const matches = parseFilters(filter)
  if (after !== undefined) asUsage(() => checkCursor(after))
  const { id, connect, lastWords } = word === undefined ? { connect: () => openFeed(path) } : sourceOf(word, path)
  const first = tail ?? (since === undefined && follow ? EVENTS_TAIL : undefined)
  const end = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => end.abort())
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') failed(error)
    end.abort()
  })
  const begin = { after, tail: after === undefined ? first : undefined }
  using stream = new EventStream({ connect, follow, rate: RATE, ...begin, lastWords })
  const isWanted = (event: EventView): boolean =>
    (since === undefined || event.time >= since) &&
    (id === undefined || event.container === id || event.container === '') &&
    matches(event)
  for await (const batch of stream.batches(end.signal)) {
    // In one piece, since each write is a call of the kernel.
    const lines = batch.filter(isWanted).map((event) => `${lineOf(format, event)}\n`)
    if (lines.length > 0) print(lines.join(''))
    await written(end.signal)
  }
  // What nobody has read by then would keep the process.
  if (end.signal.aborted && process.stdout.writableLength > 0) process.exit()
}

/** Waits while who reads the output is slower than we are: what waited for it would fill the memory. */
async function written(signal: AbortSignal): Promise<void> {
  if (!process.stdout.writableNeedDrain || signal.aborted) return
  // Its error has a listener of its own, and its end is that of the stream.
  await once(process.stdout, 'drain', { signal }).catch(() => {})
}

function failed({ message }: Error): void {
  process.exitCode = STATUS.failure
  say(`Cannot write the output: ${message}; send it where there is room`)
}

function checkCursor(after: string): void {
  try {
    parseCursor(after)
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

/** Where the events of a container are. */
interface Source {
  readonly id?: string
  connect(): FeedReader
  readonly lastWords?: string
}

function sourceOf(word: string, path: string | undefined): Source {
  using feeds = openFeeds(path)
  const { id, runtime } = requireContainer(feeds.containers(true), word)
  return runtime === RUN
    ? { id, connect: () => openRunOf(id), lastWords: 'the run has ended' }
    : { id, connect: () => openFeed(path) }
}
