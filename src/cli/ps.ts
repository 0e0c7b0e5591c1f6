import { isoTime } from '../calls/escape.ts'
import { CONTAINER_FIELDS, type ContainerView, type Field, shownName } from '../reader/container-fields.ts'
import { countIn, stateWord, summaryOf } from '../reader/container-view.ts'
import { FORMATS } from './formats.ts'
import {
  aloneAmong,
  listedSince,
  openFeeds,
  type ReadOptions,
  sayLost,
  sayMissing,
  shortId,
  terminalWidth,
} from './open-feed.ts'
import { ago, cut, duration, formatRows, formatValue, parseFormat, type Row, table } from './output-format.ts'
import { end, printAtOnce, say } from './print.ts'

interface PsOptions extends ReadOptions {
  readonly all?: boolean
  readonly wide?: boolean
}

interface PsColumn {
  readonly name: string
  readonly title: string
  readonly right: boolean
  readonly most?: number
}

/** The most characters of a name or another text of one word on a terminal, with --wide. */
const WIDE_MOST = 60
/** The most characters of a command that stands for a name: it may be a whole script, and widens every line. */
const COMMAND_MOST = 40

const wideColumns: readonly PsColumn[] = Object.entries<Field>(CONTAINER_FIELDS).flatMap(([name, { is, column }]) =>
  column === undefined
    ? []
    : [
        {
          ...{ name, title: column, right: is === 'count' || is === 'microseconds' },
          ...(is === 'escaped' && name !== 'lastRefusal' ? { most: WIDE_MOST } : {}),
        },
      ],
)
/** What fits beside each other on a terminal of 80 columns; --wide shows all. */
const USUAL: ReadonlySet<string> = new Set(['name', 'state', 'done', 'left', 'errors', 'lastRefusal'])
const usualColumns = wideColumns.filter(({ name }) => USUAL.has(name))

type Cells = Readonly<Record<string, (view: ContainerView) => string>>

/** The cells that are not their fields as they are. */
const CELLS: Cells = {
  id: ({ id }) => shortId(id),
  name: (view) => formatValue(shownName(view)),
  keys: ({ keys }) => formatValue(keys.join(',') || '-'),
  p50: ({ p50 }) => duration(p50),
  state: stateWord,
  ...Object.fromEntries((['calls', 'done', 'left', 'errors'] as const).map((name) => [name, countIn(name)])),
  lastRefusal: ({ refusals: [last] }) => (last ? `${last.call} ${last.reason}, ${agoOf(last)}` : ''),
}
const USUAL_CELLS: Cells = {
  ...CELLS,
  name: (view) => CELLS.name!(view) || `${shortId(view.id)} ${cut(formatValue(view.command), COMMAND_MOST)}`.trim(),
  lastRefusal: ({ refusals: [last] }) => (last ? `${/^\w*/.exec(last.call)} ${last.reason}, ${agoOf(last)}` : ''),
}

const agoOf = ({ time }: { readonly time: number }): string => ago(Date.now() - time)

/** Below this width, the last refusal has a line of its own. */
const NARROW = 60
/** The part of a terminal that names may take, and the least in characters. */
const NAMES = { part: 0.3, least: 12 }

function usualTable(views: Iterable<ContainerView>, width: number | undefined): string {
  const most = width === undefined ? undefined : Math.max(NAMES.least, Math.floor(NAMES.part * width))
  const shown = [...views]
  const hasErrors = shown.some(({ errors }) => errors > 0)
  const columns = usualColumns
    .filter(({ name }) => name !== 'errors' || hasErrors)
    .map((column) => (column.name === 'name' && most ? { ...column, most } : column))
  const isAlone = aloneAmong(shown)
  const rows = shown.map((view) => {
    const cells = cellsOf(view, columns, USUAL_CELLS)
    return isAlone(view) ? cells : [`${shortId(view.id)} ${cells[0]}`, ...cells.slice(1)]
  })
  if (width === undefined || width >= NARROW) return table(columns, rows, width)
  const [columnsBefore, rowsBefore] = [columns.slice(0, -1), rows.map((row) => row.slice(0, -1))]
  const [head, ...lines] = table(columnsBefore, rowsBefore, width).trimEnd().split('\n')
  const withRefusals = lines.flatMap((line, index) => {
    const refusal = rows[index]!.at(-1)!
    return refusal === '' ? [line] : [line, cut(`  ${refusal}`, width)]
  })
  return [head, ...withRefusals, ''].join('\n')
}

const cellsOf = (view: ContainerView, columns: readonly PsColumn[], cells: Cells): readonly string[] =>
  columns.map(({ name }) => cells[name]?.(view) ?? formatValue((view as unknown as Row)[name]))

export function psCommand(options: PsOptions): void {
  show(options)
  end()
}

function show({ all = false, wide = false, format: given, feed: path, history }: PsOptions): void {
  const format = parseFormat(given, FORMATS.ps)
  using feeds = openFeeds(path, { directory: history })
  sayMissing(feeds)
  const entries = (all && feeds.daemon?.directory.ring('refused')) || []
  const refused: readonly Row[] = entries.map((entry) => ({ state: 'refused', ...entry }))
  const rows = (): readonly Row[] => [...Array.from(feeds.list(all), summaryOf), ...refused]
  const width = terminalWidth()
  const views = (): Iterable<ContainerView> => feeds.list(all)
  const wideTable = (): string =>
    table(
      wideColumns,
      Array.from(views(), (view) => cellsOf(view, wideColumns, CELLS)),
      // No line is cut: its rest would not be on the terminal at all.
      width && Number.POSITIVE_INFINITY,
    )
  const asTable = (): string =>
    (wide ? wideTable() : usualTable(views(), width)) +
    (refused.length > 0 ? `\n${refusedTable(refused, wide ? undefined : width)}` : '')
  const flaw = feeds.daemon?.directory.daemon.historyFlaw
  if (feeds.keepsNone && (all || flaw !== undefined))
    say(
      `The daemon keeps no history: containers that ended long ago, or outlived an earlier daemon, are not known${flaw === undefined ? '' : `. ${formatValue(flaw)}`}`,
    )
  const text = formatRows(format, rows, asTable)
  const { begun } = feeds.gaps
  if (all && begun > listedSince() && views()[Symbol.iterator]().next().done)
    say(
      `History begins at ${isoTime(begun)}: containers that ended before, or outlived an earlier daemon, are not known`,
    )
  sayLost(feeds)
  printAtOnce(text)
}

const refusedTable = (refused: readonly Row[], width: number | undefined): string =>
  table(
    [{ title: 'REFUSED' }, { title: 'WHY' }],
    refused.map(({ time, message }) => [ago(Date.now() - Number(time)), formatValue(message)]),
    width,
  )
