import { setTimeout as sleep } from 'node:timers/promises'
import { now } from '../kernel/clock.ts'
import { type CallRate, type CallSample, callRates, sampleCalls } from '../reader/call-rates.ts'
import { shownName } from '../reader/container-fields.ts'
import { FORMATS, type TOP_SORTS } from './formats.ts'
import {
  aloneAmong,
  endWithReader,
  type Feeds,
  openFeeds,
  type ReadOptions,
  sayMissing,
  shortId,
  terminalWidth,
} from './open-feed.ts'
import { duration, formatRows, formatValue, parseFormat, table } from './output-format.ts'
import { print } from './print.ts'

interface TopOptions extends ReadOptions {
  readonly once?: boolean
  readonly interval: number
  readonly sort: (typeof TOP_SORTS)[number]
}

const COLUMNS = [
  { title: 'CONTAINER', most: 16 },
  { title: 'CALL' },
  { title: 'CALLS/S', right: true },
  { title: 'DONE', right: true },
  { title: 'LEFT', right: true },
  { title: 'ERRORS', right: true },
  { title: 'P50', right: true },
  { title: 'P99', right: true },
  { title: 'IN FLIGHT', right: true },
]
/** Moves to the first line of a terminal and clears what is below. */
const CLEAR = '\u001b[H\u001b[J'

const perSecond = (rate: number): string => (rate < 10 ? rate.toFixed(1) : `${Math.round(rate)}`)

function cells(
  { container, syscall, rate, done, left, errors, p50, p99, inFlight, stuck, ...names }: CallRate,
  isAlone: ReturnType<typeof aloneAmong>,
): readonly string[] {
  const rates = [rate, done, left, errors].map(perSecond)
  const name = shownName(names)
  // In a column of its own it would be cut off at 80 columns.
  const now = stuck > 0 ? `${inFlight}, ${stuck} stuck` : `${inFlight}`
  return [
    name === '' || !isAlone({ id: container, ...names }) ? shortId(container) : formatValue(name),
    syscall,
    ...rates,
    duration(p50),
    duration(p99),
    now,
  ]
}

/** Looks at the daemon and at all runs; the serial of a container is random. */
function sampleAll({ all }: Feeds): CallSample {
  const at = now()
  const samples = all.map((feed) => sampleCalls(feed, at))
  return {
    at,
    counts: new Map(samples.flatMap(({ counts }) => [...counts])),
    served: new Map(samples.flatMap(({ served }) => [...served])),
  }
}

function tableOf(rates: readonly CallRate[], { served }: CallSample): string {
  const isAlone = aloneAmong(Array.from(served, ([id, names]) => ({ ...names, id })))
  return table(
    COLUMNS,
    rates.map((rate) => cells(rate, isAlone)),
    terminalWidth(),
  )
}

/** How long the last beat of the daemon, one a second, is believed, in milliseconds. Then the daemon is asked. */
const SILENT_MS = 2000
const ENDED = 'Cannot go on: the daemon has ended; start "intercede top" again'

/** Returns what throws once the daemon hangs, or was killed: what it shows stays the same then. */
function daemonWatch({ daemon }: Feeds, path: string | undefined): () => void {
  let [count, since] = [-1, now()]
  return () => {
    const { ended = false, beat = -1 } = daemon?.directory.state ?? {}
    if (beat !== count) [count, since] = [beat, now()]
    if (ended) throw new Error(ENDED)
    if (daemon === undefined || now() - since <= SILENT_MS) return
    using again = openFeeds(path)
    if (again.missing) throw again.missing
    if (again.daemon?.records.id !== daemon.records.id) throw new Error(ENDED)
    since = now()
  }
}

export async function topCommand({ once, interval, sort, format: given, feed: path }: TopOptions): Promise<void> {
  const format = parseFormat(given, FORMATS.top)
  const isScreen = once !== true && format.kind === 'table' && process.stdout.isTTY
  using feeds = openFeeds(path)
  sayMissing(feeds)
  endWithReader()
  let before = sampleAll(feeds)
  const requireDaemon = daemonWatch(feeds, path)
  do {
    await sleep(1000 * interval)
    feeds.renew()
    const after = sampleAll(feeds)
    const rates = [...callRates(before, after)].sort((one, other) => (other[sort] ?? 0) - (one[sort] ?? 0))
    before = after
    const asTable = (): string => tableOf(rates, after)
    print(`${isScreen ? CLEAR : ''}${formatRows(format, () => rates, asTable)}`)
    requireDaemon()
    // Whoever has read it may have gone.
  } while (once !== true && process.stdout.errored === null)
}
