import { BOUNDS } from '../memories/counts-layout.ts'
import { reloadResults, restartCauses } from '../memories/daemon-totals.ts'
import { FewLabels } from '../memories/few-labels.ts'
import { type AllCalls, allCalls, type CallTotal } from './call-totals.ts'
import { histogramLines, labelled, metric } from './exposition.ts'
import type { FeedReader } from './feed.ts'
import { type ProcessStats, processStats, sumOfStats } from './process-stats.ts'

/** The most series that may name containers: a metrics server pays for each. */
const SERIES = 50_000
const SECONDS = BOUNDS.map((bound) => String(bound / 1e6))

type Daemon = FeedReader['directory']['daemon']
type Counted = Readonly<Record<string, number>>
type Series = readonly (readonly [labels: string, value: number])[]

/** Makes the metrics of a daemon, in the text format of Prometheus. @param series see above */
export function metricsText(feed: FeedReader, series = SERIES): string {
  const { containers, daemon } = feed.directory
  const ids = new Map(containers.map(({ serial, id }) => [Number(serial), String(id)]))
  const calls = allCalls(feed, daemon.containerLabel === true ? ids : undefined, series)
  return [
    ofDaemon(daemon),
    ofContainers(containers),
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

function ofContainers(containers: FeedReader['directory']['containers']): string {
  const runtimes = new FewLabels()
  const counts: Record<string, number> = {}
  for (const { runtime } of containers) {
    const label = runtimes.labelOf(runtime)
    counts[label] = (counts[label] ?? 0) + 1
  }
  const listeners = containers.reduce((sum, each) => sum + Number(each.listeners), 0)
  return [
    metric(
      ...(['intercede_containers', 'gauge', 'Containers that are known.'] as const),
      Object.keys(counts).length === 0 ? [[labelled({ runtime: 'unknown' }), 0]] : byLabel('runtime', counts),
    ),
    metric('intercede_listeners', 'gauge', 'Listeners: one for each container and each process exec-ed into it.', [
      ['', listeners],
    ]),
  ].join('')
}

const byLabel = (name: string, counts: Counted): Series =>
  Object.entries(counts).map(([label, count]) => [labelled({ [name]: label }), count])

/** Counters exist from the start: if a counter began with its first event, that increase would never be seen. */
const withZeros = (labels: readonly string[], counts: Counted = {}): Counted => ({
  ...Object.fromEntries(labels.map((label) => [label, 0])),
  ...counts,
})

const callLabels = ({ syscall, verdict, reason, container }: CallTotal): string =>
  labelled({ syscall, verdict, reason, ...(container === '' ? {} : { container }) })

function ofCalls({ totals, durations, inFlight }: AllCalls, { stuck = 0 }: Daemon): string {
  const series = [...totals].map((total) => [callLabels(total), total.calls] as const)
  const noEngine = series.some(([labels]) => labels.includes('reason="noEngine"'))
  const zero = labelled({ syscall: 'other', verdict: 'left', reason: 'noEngine' })
  const name = 'intercede_call_duration_seconds'
  let text = `# HELP ${name} From the receipt of a call to its answer.\n# TYPE ${name} histogram\n`
  for (const { syscall, verdict, buckets, microseconds } of durations)
    text += histogramLines(name, labelled({ syscall, verdict }).slice(1, -1), SECONDS, {
      buckets,
      seconds: microseconds / 1e6,
    })
  return [
    metric('intercede_calls_total', 'counter', 'Calls, by what became of them and why.', [
      ...series,
      ...(noEngine ? [] : [[zero, 0] as const]),
    ]),
    text,
    metric('intercede_calls_in_flight', 'gauge', 'Calls that are being served.', [['', inFlight]]),
    metric('intercede_calls_stuck', 'gauge', 'Calls that are served for longer than ten seconds.', [['', stuck]]),
  ].join('')
}

function ofEvents({ restarts, reloads, registrations = {}, ...sums }: Daemon): string {
  const registered = Object.entries({ 'unknown refused': 0, ...registrations })
  return [
    metric(
      ...(['intercede_engine_restarts_total', 'counter', 'Engines that ended and were replaced, by cause.'] as const),
      byLabel('cause', withZeros(restartCauses, restarts)),
    ),
    metric('intercede_records_lost_total', 'counter', 'Records that were overwritten before they were logged.', [
      ['', sums.recordsLost ?? 0],
    ]),
    metric('intercede_log_lines_suppressed_total', 'counter', 'Lines of the log that were counted instead.', [
      ['', sums.linesSuppressed ?? 0],
    ]),
    metric(
      ...(['intercede_registrations_total', 'counter', 'Hand-overs of runtimes, by result.'] as const),
      registered.map(([key, count]) => {
        const [runtime = '', result = ''] = key.split(' ')
        return [labelled({ runtime, result }), count]
      }),
    ),
    metric(
      ...(['intercede_reloads_total', 'counter', 'Reloads of configuration or program, by result.'] as const),
      byLabel('result', withZeros(reloadResults, reloads)),
    ),
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
