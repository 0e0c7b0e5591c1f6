import { readFileSync } from 'node:fs'
import { syscallName } from '../abi/syscalls.ts'
import { escaped } from '../calls/escape.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import { WORDS } from '../calls/record.ts'
import { orElse } from '../kernel/error.ts'
import { STAT, statNumber } from '../kernel/procfs/status.ts'
import { pageSize, ticksPerSecond } from '../kernel/system-info.ts'
import { BOUNDS } from '../memories/counts-layout.ts'
import { FewLabels, refusalCauses, reloadResults, restartCauses } from '../memories/daemon-totals.ts'
import type { CallCount } from '../memories/read-counts.ts'
import { namesOf } from './container-fields.ts'
import type { Entry } from './directory-reader.ts'
import type { FeedReader } from './feed.ts'

type Labels = Readonly<Record<string, string>>
type MetricType = 'counter' | 'gauge'
type Series = readonly (readonly [labels: string, value: number])[]

/** Quotes a value. Texts that a container has chosen already have octal escapes for unprintable characters. */
const labelValue = (text: string): string => escaped(text).replaceAll('\\', '\\\\').replaceAll('"', '\\"')

/** Makes the labels of a series, as in its line. */
export function labelled(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${labelValue(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

/**
 * Makes the text of one metric in the format of Prometheus.
 *
 * @param series each with its labels, as `labelled` shows them; or the value of the only one, which has none
 */
export function metric(name: string, type: MetricType, help: string, series: Series | number): string {
  let text = `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
  for (const [labels, value] of typeof series === 'number' ? [['', series]] : series)
    text += `${name}${labels} ${value}\n`
  return text
}

/** The distribution of durations. */
interface Histogram {
  /** The number in each bucket; there is one more bucket than bounds. */
  readonly buckets: readonly number[]
  readonly seconds: number
}

/** Makes the lines of one series of a histogram. @param labels with a comma at the end @param bounds as texts */
export function histogramLines(
  name: string,
  labels: string,
  bounds: readonly string[],
  { buckets, seconds }: Histogram,
): string {
  let text = ''
  let count = 0
  for (const [index, bound] of bounds.entries()) {
    count += buckets[index]!
    text += `${name}_bucket{${labels},le="${bound}"} ${count}\n`
  }
  count += buckets[bounds.length]!
  text += `${name}_bucket{${labels},le="+Inf"} ${count}\n`
  return `${text}${name}_sum{${labels}} ${seconds}\n${name}_count{${labels}} ${count}\n`
}

/** How often calls were made, or how long they took, for one set of labels. */
interface CallTotal {
  readonly syscall: string
  readonly verdict: string
  readonly reason: string
  /** The labels of its container; none for the sum of containers that are not named. */
  readonly which: Labels
  calls: number
  microseconds: number
  /** As in `CallCount`; empty if they are not wanted. */
  readonly buckets: number[]
}

/** The name of a call with an unknown number: a container chooses numbers. */
const OTHER = 'other'
const NO_ENGINE: ReasonCode = 'noEngine'
const BUCKETS = BOUNDS.length + 1

class Sums {
  readonly all = new Map<string, CallTotal>()
  readonly #buckets: number

  /**
   * @param buckets how many buckets of durations to keep
   */
  constructor(buckets: number) {
    this.#buckets = buckets
  }

  /** @param reason empty to sum up over reasons */
  add({ arch, nr, verdict, ...counted }: CallCount, reason: string, which: Labels): void {
    const syscall = (nr < 0 ? undefined : syscallName(arch, nr)) ?? OTHER
    const key = `${syscall} ${verdict} ${reason} ${which.container ?? ''}`
    let total = this.all.get(key)
    if (!total) {
      const buckets = new Array<number>(this.#buckets).fill(0)
      total = { syscall, verdict: WORDS[verdict], reason, which, calls: 0, microseconds: 0, buckets }
      this.all.set(key, total)
    }
    total.calls += counted.calls
    total.microseconds += counted.microseconds
    for (let bucket = 0; bucket < this.#buckets; bucket++) total.buckets[bucket]! += counted.buckets[bucket]!
  }
}

interface AllCalls {
  /** By call, verdict, reason and, if it is asked for, container. */
  readonly totals: Iterable<CallTotal>
  /** By call and verdict. */
  readonly durations: Iterable<CallTotal>
  readonly inFlight: number
  /** Calls that were left to the kernel because engines kept failing. */
  readonly withoutEngine: number
}

/**
 * Sums up all calls that were ever counted.
 *
 * @param names names a container by its serial; undefined if containers are not to be told apart. Then those that have
 *   ended count too, so that no sum shrinks
 * @param limit the most series that may name containers; in further series the container is "other"
 */
const allCalls = (feed: FeedReader, names: ReadonlyMap<number, Labels> | undefined, limit: number): AllCalls =>
  feed.allCounts(({ containers, ended }) => {
    const [totals, durations] = [new Sums(0), new Sums(BUCKETS)]
    let [inFlight, withoutEngine] = [0, 0]
    const add = (calls: readonly CallCount[], which: Labels): void => {
      for (const counted of calls) totals.add(counted, counted.reason, which)
      addSums(calls)
    }
    const addSums = (calls: readonly CallCount[]): void => {
      for (const counted of calls) {
        durations.add(counted, '', {})
        if (counted.reason === NO_ENGINE) withoutEngine += counted.calls
      }
    }
    for (const { serial, inFlight: now, calls } of containers) {
      inFlight += now
      const isNamed = names !== undefined && totals.all.size + calls.length <= limit
      add(calls, names === undefined ? {} : ((isNamed ? names.get(serial) : undefined) ?? { container: OTHER }))
    }
    if (names === undefined) add(ended, {})
    else addSums(ended)
    return { totals: totals.all.values(), durations: durations.all.values(), inFlight, withoutEngine }
  })

interface ProcessStats {
  readonly cpuSeconds: number
  readonly residentBytes: number
  readonly threads: number
  /** Seconds since 1970. */
  readonly start: number
}

const bootTime = (): number => Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1] ?? 0)

/** Reads the resources of a process; undefined if there is no process with this pid, or we may not see it. */
const processStats = (pid: number): ProcessStats | undefined =>
  orElse(undefined, () => {
    const stat = readFileSync(`/proc/${pid}/stat`)
    const field = (name: keyof typeof STAT): number => statNumber(stat, stat.length, STAT[name])
    return {
      cpuSeconds: (field('userTime') + field('systemTime')) / ticksPerSecond(),
      residentBytes: field('resident') * pageSize(),
      threads: field('threads'),
      start: bootTime() + field('startTime') / ticksPerSecond(),
    }
  })

/** Sums up the resources of several processes; the start is that of the first. */
const sumOfStats = (all: readonly ProcessStats[]): ProcessStats => ({
  cpuSeconds: all.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
  residentBytes: all.reduce((sum, { residentBytes }) => sum + residentBytes, 0),
  threads: all.reduce((sum, { threads }) => sum + threads, 0),
  start: Math.min(...all.map(({ start }) => start)),
})

/** The most series that may name containers: a metrics server pays for each. */
const SERIES = 50_000
const SECONDS = BOUNDS.map((bound) => String(bound / 1e6))

type Daemon = FeedReader['directory']['daemon']
type Counted = Readonly<Record<string, number>>

/** In characters of a name: each series of a container has it. */
const NAME = 128

/** Returns the labels of a container: its id and, as far as they are known, its name and Pod. */
function labelsOf(about: Entry): Labels {
  const { name, namespace, pod } = namesOf(about)
  const known = Object.entries({ name, namespace, pod }).flatMap(([label, value]) =>
    value === undefined ? [] : [[label, value.slice(0, NAME)]],
  )
  return { container: String(about.id), ...Object.fromEntries(known) }
}

/**
 * Makes the metrics of a daemon, in the text format of Prometheus.
 *
 * @param unserved how many containers outlived their daemon; undefined if that is not known
 * @param series see above
 */
export function metricsText(feed: FeedReader, unserved?: number, series = SERIES): string {
  const { containers, daemon } = feed.directory
  const named = containers.map((about) => [Number(about.serial), labelsOf(about)] as const)
  const calls = allCalls(feed, daemon.containerLabel === true ? new Map(named) : undefined, series)
  return [
    ofDaemon(daemon),
    ofContainers(containers, unserved),
    ofCalls(calls, daemon),
    ofEvents(daemon),
    ofProcesses(feed.directory.state, daemon.mounters ?? []),
  ].join('')
}

const ofDaemon = ({ version = '' }: Daemon): string => {
  const [, number = version, build = ''] = /^(\S+) \(build (\w+)\)$/.exec(version) ?? []
  const labels = labelled({ version: number, build })
  return metric('intercede_build_info', 'gauge', 'The daemon that serves, by version and build.', [[labels, 1]])
}

function ofContainers(containers: FeedReader['directory']['containers'], unserved: number | undefined): string {
  const runtimes = new FewLabels()
  const counts: Record<string, number> = {}
  for (const { runtime } of containers) {
    const label = runtimes.labelOf(runtime)
    counts[label] = (counts[label] ?? 0) + 1
  }
  const listeners = containers.reduce((sum, each) => sum + Number(each.listeners ?? 0), 0)
  const known = byLabel('runtime', Object.keys(counts).length === 0 ? { unknown: 0 } : counts)
  const help = 'Listeners: one for each container and each process exec-ed into it.'
  const outlived = 'Containers that outlived their daemon: their trapped calls fail.'
  return [
    metric('intercede_containers', 'gauge', 'Containers that are known.', known),
    unserved === undefined ? '' : metric('intercede_containers_unserved', 'gauge', outlived, unserved),
    metric('intercede_listeners', 'gauge', help, listeners),
  ].join('')
}

const byLabel = (name: string, counts: Counted): Series =>
  Object.entries(counts).map(([label, count]) => [labelled({ [name]: label }), count])

/** Counters exist from the start: if a counter began with its first event, that increase would never be seen. */
const withZeros = (labels: readonly string[], counts: Counted = {}): Counted => ({
  ...Object.fromEntries(labels.map((label) => [label, 0])),
  ...counts,
})

const callLabels = ({ syscall, verdict, reason, which }: CallTotal): string =>
  labelled({ syscall, verdict, reason, ...which })

function ofCalls({ totals, durations, inFlight, withoutEngine }: AllCalls, { stuck = 0 }: Daemon): string {
  const series = [...totals].map((total) => [callLabels(total), total.calls] as const)
  const name = 'intercede_call_duration_seconds'
  let text = `# HELP ${name} From the receipt of a call to its answer.\n# TYPE ${name} histogram\n`
  for (const { syscall, verdict, buckets, microseconds } of durations)
    text += histogramLines(name, labelled({ syscall, verdict }).slice(1, -1), SECONDS, {
      buckets,
      seconds: microseconds / 1e6,
    })
  return [
    metric('intercede_calls_total', 'counter', 'Calls, by outcome and reason.', series),
    // For an alert: a series of its reason begins with the first such call, whose increase would never be seen.
    metric(
      'intercede_calls_without_engine_total',
      'counter',
      'Calls left because engines kept failing.',
      withoutEngine,
    ),
    text,
    metric('intercede_calls_in_flight', 'gauge', 'Calls that are being served.', inFlight),
    metric('intercede_calls_stuck', 'gauge', 'Calls that are served for longer than ten seconds.', stuck),
  ].join('')
}

function ofEvents(daemon: Daemon): string {
  const { recordsLost: lost = 0, linesSuppressed: suppressed = 0 } = daemon
  const restarts = byLabel('cause', withZeros(restartCauses, daemon.restarts))
  const reloads = byLabel('result', withZeros(reloadResults, daemon.reloads))
  const refused = refusalCauses.map((cause) => `unknown refused ${cause}`)
  const registrations = Object.entries(withZeros(refused, daemon.registrations)).map(([key, count]) => {
    const [runtime = '', result = '', cause] = key.split(' ')
    return [labelled({ runtime, result, ...(cause === undefined ? {} : { cause }) }), count] as const
  })
  return [
    metric('intercede_engine_restarts_total', 'counter', 'Engines that ended and were replaced, by cause.', restarts),
    metric('intercede_records_lost_total', 'counter', 'Records that were overwritten before they were logged.', lost),
    metric(
      'intercede_log_lines_suppressed_total',
      'counter',
      'Lines of the log that were counted instead.',
      suppressed,
    ),
    metric('intercede_registrations_total', 'counter', 'Hand-overs of runtimes, by result.', registrations),
    metric('intercede_reloads_total', 'counter', 'Reloads of configuration or program, by result.', reloads),
  ].join('')
}

function ofProcesses({ keeper, engine }: FeedReader['directory']['state'], mounters: readonly number[]): string {
  const all: readonly (readonly [string, readonly number[]])[] = [
    ['keeper', [keeper]],
    ['engine', [engine]],
    ['mounter', mounters],
  ]
  const stats = all
    .map(([name, pids]) => [name, pids.map(processStats).filter((each) => each !== undefined)] as const)
    .filter(([, found]) => found.length > 0)
    .map(([name, found]) => [labelled({ process: name }), sumOfStats(found)] as const)
  const series = (member: keyof ProcessStats): Series => stats.map(([labels, each]) => [labels, each[member]])
  const name = 'intercede_process'
  return [
    metric(`${name}_cpu_seconds_total`, 'counter', 'Processor time of a process.', series('cpuSeconds')),
    metric(`${name}_resident_memory_bytes`, 'gauge', 'Resident memory of a process.', series('residentBytes')),
    metric(`${name}_threads`, 'gauge', 'Threads of a process.', series('threads')),
    metric(`${name}_start_time_seconds`, 'gauge', 'When a process was started, since 1970.', series('start')),
  ].join('')
}
