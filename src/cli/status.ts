import { isoTime, shownJson } from '../calls/escape.ts'
import { containersOf } from '../reader/container-view.ts'
import { metricsText } from '../reader/metrics.ts'
import { counted } from '../shared/texts.ts'
import { FORMATS } from './formats.ts'
import { openFeed, type ReadOptions } from './open-feed.ts'
import { ago, byTemplate, formatValue, parseFormat, type Row } from './output-format.ts'
import { print } from './print.ts'
import { STATUS } from './usage.ts'

/** The daemon writes when an engine began a moment after it has written which one that is. */
const since = (time: unknown): string =>
  typeof time === 'number' ? `since ${isoTime(time)}, ${ago(Date.now() - time)}` : 'starting'

function lines({ pid, version, since: began, reloaded, engine, engineSince, ...row }: Row): readonly string[] {
  const ended = Object.values((row.restarts ?? {}) as Readonly<Record<string, number>>).reduce(
    (one, other) => one + other,
    0,
  )
  const more = ended > 0 ? `, after ${counted(ended, 'other')} that failed` : ''
  const lost = row.historyLost ? `, where ${counted(Number(row.historyLost), 'line')} could not be written` : ''
  return [
    `daemon      pid ${pid}, ${since(began)}`,
    `program     ${formatValue(version)}`,
    `configured  ${since(reloaded)}`,
    `engine      ${engine ? `pid ${engine}, ${since(engineSince)}${more}` : `none now${more}: calls wait for it, or are left to the kernel if engines keep failing`}`,
    `history     ${row.history === undefined ? 'not kept' : formatValue(row.history)}${lost}`,
    `containers  ${row.served} served, ${row.left} left to the kernel, ${counted(Number(row.listeners), 'listener')}`,
  ]
}

export function statusCommand({ format: given, feed: path }: ReadOptions): void {
  const format = parseFormat(given, FORMATS.status)
  using feed = openFeed(path)
  const views = containersOf(feed)
  const { engine, keeper, ended } = feed.directory.state
  const row: Row = {
    pid: keeper,
    ...feed.directory.daemon,
    engine,
    served: views.filter(({ state }) => state === 'served').length,
    left: views.filter(({ state }) => state === 'left').length,
    listeners: views.reduce((sum, { about }) => sum + Number(about.listeners ?? 0), 0),
  }
  if (format.kind === 'table')
    print(
      lines(row)
        .map((line) => `${line}\n`)
        .join(''),
    )
  else print(`${format.kind === 'template' ? byTemplate(format.template, row) : shownJson(row)}\n`)
  if (engine === 0 || ended) process.exitCode = STATUS.no
}

export function metricsCommand({ feed: path }: { readonly feed?: string }): void {
  using feed = openFeed(path)
  print(metricsText(feed))
}
