/** A column of a table: its heading, and whether it is a number. */
interface Column {
  readonly title: string
  readonly right?: boolean
}

const GAP = '  '

/**
 * Lays out rows below headings. On a terminal the last column is cut at its width; where the output goes to a file or
 * program nothing is cut.
 *
 * @param width of the terminal; undefined if there is none
 */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], width?: number): string {
  const all = [columns.map(({ title }) => title), ...rows]
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
const cut = (line: string, width: number | undefined): string =>
  width === undefined || line.length <= width ? line : `${line.slice(0, Math.max(0, width - DOTS.length))}${DOTS}`

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
