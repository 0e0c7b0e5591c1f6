import { isoTime, shownJson } from '../calls/escape.ts'
import type { DaemonTotals } from '../memories/daemon-totals.ts'
import type { ContainerView } from '../reader/container-fields.ts'
import { outlivedIn } from '../reader/history.ts'
import { metricsText } from '../reader/metrics.ts'
import { counted } from '../shared/texts.ts'
import { FORMATS } from './formats.ts'
import { isServed, openFeed, openFeeds, type ReadOptions, usualSocket, withoutEngine } from './open-feed.ts'
import { ago, byTemplate, formatValue, parseFormat, type Row } from './output-format.ts'
import { print } from './print.ts'
import { STATUS } from './usage.ts'

const since = (time: unknown): string =>
  typeof time === 'number' ? `since ${isoTime(time)}, ${ago(Date.now() - time)}` : 'starting'

function lines(
  { pid, version, since: began, reloaded, engine, engineSince, ...row }: Row,
  daemon: Partial<DaemonTotals>,
): readonly string[] {
  const ended = Object.values((row.restarts ?? {}) as Readonly<Record<string, number>>).reduce(
    (one, other) => one + other,
    0,
  )
  const more = ended > 0 ? `, after ${counted(ended, 'other')} that ended` : ''
  const lost = row.historyLost ? `, where ${counted(Number(row.historyLost), 'line')} could not be written` : ''
  const { historyFlaw, notReloaded } = daemon
  const flaw = historyFlaw === undefined ? '' : `: ${formatValue(historyFlaw)}`
  const stopped = flaw === '' ? '' : `, where nothing new is kept${flaw}`
  const refused = notReloaded
    ? `; a reload failed ${ago(Date.now() - Number(notReloaded.time))}: ${formatValue(notReloaded.message)}`
    : ''
  const observed = row.observed === 0 ? '' : `, ${row.observed} observed`
  const unserved =
    row.unserved === undefined
      ? ', those of earlier daemons not known'
      : row.unserved === 0
        ? ''
        : `, ${row.unserved} not served by any daemon`
  const unknown = row.unknown ? `, ${row.unknown} of LXC not seen since the daemon began` : ''
  // Of containers that an earlier daemon served, what is not in history is not known.
  const kept = row.historySince === undefined ? '' : `, since ${isoTime(Date.parse(String(row.historySince)))}`
  return [
    `daemon      pid ${pid}, ${since(began)}`,
    `program     ${formatValue(version)}`,
    `configured  ${since(reloaded)}${refused}`,
    `engine      ${engine ? `pid ${engine}, ${since(engineSince)}${more}` : `none now${more}: ${withoutEngine(daemon)}`}`,
    `history     ${row.history === undefined ? `not kept${flaw}` : `${formatValue(row.history)}${kept}${stopped}`}${lost}`,
    `containers  ${row.served} served${observed}, ${row.left} left to the kernel${unserved}${unknown}, ${counted(Number(row.listeners), 'listener')}`,
  ]
}

export function statusCommand({ format: given, feed: path }: ReadOptions): void {
  const format = parseFormat(given, FORMATS.status)
  // Of a socket that is named, without the runs.
  using feeds = openFeeds(path ?? usualSocket(), { isUsual: true })
  if (!feeds.daemon) throw feeds.missing!
  const views = [...feeds.list(false)]
  const numberOf = (word: ContainerView['state']): number => views.filter(({ state }) => state === word).length
  const { state, daemon } = feeds.daemon.directory
  const { engine, keeper, ended } = state
  const row: Row = {
    pid: keeper,
    ...daemon,
    engine,
    // The daemon writes when an engine began a moment before or after it has written which one that is.
    engineSince: daemon.engine === engine ? daemon.engineSince : undefined,
    served: numberOf('served'),
    observed: numberOf('observed'),
    left: numberOf('left'),
    unserved: feeds.keepsNone ? undefined : numberOf('unserved'),
    unknown: numberOf('unknown'),
    historySince: feeds.gaps.begun > 0 ? new Date(feeds.gaps.begun).toISOString() : undefined,
    listeners: views.filter(isServed).reduce((sum, { about }) => sum + Number(about.listeners ?? 0), 0),
  }
  if (format.kind === 'table')
    print(
      lines(row, daemon)
        .map((line) => `${line}\n`)
        .join(''),
    )
  // Not 0, which kill(1) takes for a process group.
  else if (format.kind === 'template')
    print(`${byTemplate(format.template, { ...row, engine: engine || undefined })}\n`)
  else print(`${shownJson(row)}\n`)
  if (engine === 0 || ended) process.exitCode = STATUS.no
}

export function metricsCommand({ feed: path }: { readonly feed?: string }): void {
  using feed = openFeed(path)
  print(metricsText(feed, outlivedIn(feed)?.length))
}
