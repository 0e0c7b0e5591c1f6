import type { ContainerView } from '../reader/container-view.ts'
import { summaryOf } from '../reader/rows.ts'
import { openFeeds, shortId, terminalWidth } from './open-feed.ts'
import { asJson, byTemplate, formatValue, parseFormat, type Row } from './output-format.ts'
import { end, printAtOnce } from './print.ts'
import { ago, duration, table } from './table.ts'
import { PS_FIELDS } from './template-fields.ts'

interface PsOptions {
  readonly all?: boolean
  readonly format?: string
  readonly feed?: string
}

const COLUMNS = [
  ...[
    { title: 'CONTAINER' },
    { title: 'RUNTIME' },
    { title: 'NAME' },
    { title: 'IMAGE' },
    { title: 'PID', right: true },
  ],
  ...[{ title: 'KEYS' }, { title: 'STATE' }, { title: 'CALLS', right: true }, { title: 'DONE', right: true }],
  ...[
    { title: 'LEFT', right: true },
    { title: 'ERRORS', right: true },
    { title: 'P50', right: true },
  ],
  { title: 'LAST REFUSAL' },
]

function cells(view: ContainerView): readonly string[] {
  const [last] = view.refusals
  const { id, runtime, name, image, pid, keys, state, calls, done, left, errors, p50 } = view
  return [
    ...[
      shortId(id),
      ...[runtime, name, image, pid, keys.join(',') || '-', state, calls, done, left, errors].map(formatValue),
    ],
    ...[duration(p50), last ? `${last.call} ${last.reason}, ${ago(Date.now() - last.time)}` : ''],
  ]
}

export function psCommand(options: PsOptions): void {
  show(options)
  end()
}

function show({ all = false, format: given, feed: path }: PsOptions): void {
  const format = parseFormat(given, ['table', 'json'], PS_FIELDS)
  using feeds = openFeeds(path)
  const entries = (all && feeds.daemon?.directory.ring('refused')) || []
  const refused: readonly Row[] = entries.map((entry) => ({ state: 'refused', ...entry }))
  if (format.kind === 'table') {
    printAtOnce(table(COLUMNS, Array.from(feeds.list(all), cells), terminalWidth()))
    if (refused.length > 0) printAtOnce(`\n${refusedTable(refused)}`)
    return
  }
  const rows: readonly Row[] = [...Array.from(feeds.list(all), summaryOf), ...refused]
  if (format.kind === 'template') printAtOnce(rows.map((row) => `${byTemplate(format.template, row)}\n`).join(''))
  else printAtOnce(`${asJson(rows)}\n`)
}

const refusedTable = (refused: readonly Row[]): string =>
  table(
    [{ title: 'REFUSED' }, { title: 'WHY' }],
    refused.map(({ time, message }) => [ago(Date.now() - Number(time)), formatValue(message)]),
    terminalWidth(),
  )
