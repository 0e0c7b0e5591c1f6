import { CONTAINER_FIELDS, type ContainerView, type Field } from '../reader/container-fields.ts'
import { summaryOf } from '../reader/container-view.ts'
import { FORMATS } from './formats.ts'
import { openFeeds, type ReadOptions, sayMissing, shortId, terminalWidth } from './open-feed.ts'
import { ago, duration, formatRows, formatValue, parseFormat, type Row, table } from './output-format.ts'
import { end, printAtOnce } from './print.ts'

interface PsOptions extends ReadOptions {
  readonly all?: boolean
}

const columns = Object.entries<Field>(CONTAINER_FIELDS).flatMap(([name, { is, column }]) =>
  column === undefined ? [] : [{ name, title: column, right: is === 'count' || is === 'microseconds' }],
)

function formatLastRefusal([last]: ContainerView['refusals']): string {
  return last ? `${last.call} ${last.reason}, ${ago(Date.now() - last.time)}` : ''
}

/** The cells that are not their fields as they are. */
const CELLS: Readonly<Record<string, (view: ContainerView) => string>> = {
  id: ({ id }) => shortId(id),
  keys: ({ keys }) => formatValue(keys.join(',') || '-'),
  p50: ({ p50 }) => duration(p50),
  lastRefusal: ({ refusals }) => formatLastRefusal(refusals),
}

const cells = (view: ContainerView): readonly string[] =>
  columns.map(({ name }) => CELLS[name]?.(view) ?? formatValue((view as unknown as Row)[name]))

export function psCommand(options: PsOptions): void {
  show(options)
  end()
}

function show({ all = false, format: given, feed: path, history }: PsOptions): void {
  const format = parseFormat(given, FORMATS.ps)
  using feeds = openFeeds(path, all ? { directory: history } : undefined)
  sayMissing(feeds)
  const entries = (all && feeds.daemon?.directory.ring('refused')) || []
  const refused: readonly Row[] = entries.map((entry) => ({ state: 'refused', ...entry }))
  const rows = (): readonly Row[] => [...Array.from(feeds.list(all), summaryOf), ...refused]
  const asTable = (): string =>
    table(columns, Array.from(feeds.list(all), cells), terminalWidth()) +
    (refused.length > 0 ? `\n${refusedTable(refused)}` : '')
  printAtOnce(formatRows(format, rows, asTable))
}

const refusedTable = (refused: readonly Row[]): string =>
  table(
    [{ title: 'REFUSED' }, { title: 'WHY' }],
    refused.map(({ time, message }) => [ago(Date.now() - Number(time)), formatValue(message)]),
    terminalWidth(),
  )
