import { escaped, escapedMember, shownJson, timeMember } from '../calls/escape.ts'
import { briefly } from '../shared/texts.ts'
import type { Format, FormatWord } from './formats.ts'
import { UsageError } from './usage.ts'

/** A column of a table: its heading, and whether it is a number. */
interface Column {
  readonly title: string
  readonly right?: boolean
  /** The most characters of a cell on a terminal. */
  readonly most?: number
}

const GAP = '  '

/**
 * Lays out rows below headings. On a terminal the last column is cut at its width; where the output goes to a file or
 * program nothing is cut.
 *
 * @param width of the terminal; undefined if there is none
 */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], width?: number): string {
  const fitted = (cell: string, index: number): string =>
    cutWithin(cell, width === undefined ? undefined : columns[index]!.most)
  const all = [columns.map(({ title }) => title), ...rows.map((row) => row.map(fitted))]
  const widths = columns.map((_, index) => Math.max(...all.map((row) => row[index]!.length)))
  const last = columns.length - 1
  const line = (row: readonly string[]): string =>
    row
      .map((cell, index) => {
        if (columns[index]!.right) return cell.padStart(widths[index]!)
        return index === last ? cell : cell.padEnd(widths[index]!)
      })
      .join(GAP)
      .trimEnd()
  return all.map((row) => `${cut(line(row), width)}\n`).join('')
}

const DOTS = '...'
/** Cuts a line that is too long, which must be escaped already. */
export const cut = (line: string, width: number | undefined): string =>
  width === undefined || line.length <= width ? line : `${line.slice(0, Math.max(0, width - DOTS.length))}${DOTS}`

/** Cuts a cell. Names of Pods and images tell more at their end, so they are cut before it. */
function cutWithin(cell: string, most: number | undefined): string {
  if (most === undefined || cell.length <= most || !cell.includes('/')) return cut(cell, most)
  const end = Math.ceil((2 / 3) * (most - DOTS.length))
  return `${cut(cell, most - end)}${cell.slice(-end)}`
}

const SECOND = 1000
const UNITS: readonly (readonly [number, string])[] = [
  [86_400 * SECOND, 'd'],
  [3600 * SECOND, 'h'],
  [60 * SECOND, 'm'],
  [SECOND, 's'],
]

/** Says how long ago something was, in its largest unit. */
export function ago(ms: number): string {
  const [size, unit] = UNITS.find(([each]) => ms >= each) ?? [SECOND, 's']
  return `${Math.floor(Math.max(0, ms) / size)}${unit} ago`
}

/** Says a duration in microseconds, such as an upper bound of a bucket. */
export function duration(microseconds: number | undefined): string {
  if (microseconds === undefined) return '-'
  if (microseconds === Number.POSITIVE_INFINITY) return '>20s'
  if (microseconds < 1000) return `${microseconds}us`
  return microseconds < 1e6 ? `${microseconds / 1000}ms` : `${microseconds / 1e6}s`
}

/** What a program gets of one row: texts and numbers, or more for JSON. */
export type Row = Readonly<Record<string, unknown>>

/** How rows are printed: as a table for people, as JSON, or by a template. */
export type OutputFormat =
  | { readonly kind: FormatWord }
  | { readonly kind: 'template'; readonly template: string; readonly fields: readonly string[] }

const FIELD = /\{([A-Za-z0-9]*)\}/g

/**
 * Reads the value of --format.
 *
 * @throws {UsageError} if it is neither
 */
export function parseFormat(given: string | undefined, { words, fields }: Format): OutputFormat {
  const word = words.find((each) => each === (given ?? 'table'))
  if (word) return { kind: word }
  const named = [...given!.matchAll(FIELD)].map(([, name]) => name!)
  const list = `${words.join(', ')}, or a text with fields of ${fields.map((name) => `{${name}}`).join(' ')}`
  if (named.length === 0) throw new UsageError(`Cannot use --format ${briefly(given)}: it may be ${list}`)
  const unknown = named.find((name) => !fields.includes(name))
  if (unknown !== undefined)
    throw new UsageError(`Cannot use --format: there is no field {${unknown}}; it may be ${list}`)
  return { kind: 'template', template: given!, fields: named }
}

const timed = (name: string, value: unknown): unknown => timeMember(name, value) ?? value

/** Shows one value in a table or template. It may be a container's own text, so it is escaped. */
export function formatValue(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (Array.isArray(value)) return value.map(formatValue).join(',')
  return escaped(typeof value === 'object' ? JSON.stringify(value, timed) : String(value))
}

const formatMember = (name: string, value: unknown): string =>
  typeof value === 'string' ? escapedMember(name, value) : formatValue(timed(name, value))

export const byTemplate = (template: string, row: Row): string =>
  template.replaceAll(FIELD, (_, name: string) => formatMember(name, row[name]))

/** Formats rows for a program, as JSON or by a template, or else as a table for people. */
export function formatRows(format: OutputFormat, rows: () => readonly object[], asTable: () => string): string {
  if (format.kind === 'json') return `${shownJson(rows())}\n`
  if (format.kind !== 'template') return asTable()
  return rows()
    .map((row) => `${byTemplate(format.template, row as Row)}\n`)
    .join('')
}

/** The name of a thread, which is escaped already. It is quoted if it could be taken for more than a name. */
const shownComm = (comm: string): string => (/^[\w.+:@/-]+$/.test(comm) ? comm : `"${comm.replaceAll('"', '\\"')}"`)

/** Says who made a call, as far as it is known: ` by mknod, pid 12`. The name is escaped already. */
export function formatCaller({ comm, pid }: { readonly comm?: string; readonly pid?: number }): string {
  const known = [...(comm ? [shownComm(comm)] : []), ...(pid === undefined ? [] : [`pid ${pid}`])]
  return known.length === 0 ? '' : `  by ${known.join(', ')}`
}
