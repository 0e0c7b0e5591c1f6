/** Saves a text or picture as a file. */
export function save(name: string, blob: Blob): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(blob)
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 1000)
}

/** A spreadsheet would take these for the beginning of a formula. */
const FORMULA = /^[=+\-@\t\r]/

function cell(value: string | number | undefined): string {
  if (typeof value === 'number') return `${value}`
  const text = FORMULA.test(value ?? '') ? `'${value}` : (value ?? '')
  return `"${text.replaceAll('"', '""')}"`
}

export const csvOf = (rows: readonly (readonly (string | number | undefined)[])[]): Blob =>
  new Blob(
    rows.map((row) => `${row.map(cell).join(',')}\r\n`),
    { type: 'text/csv' },
  )

/** Formats a number of calls per second. */
export const perSecond = (rate: number | undefined): string =>
  rate === undefined ? '' : rate > 0 && rate < 10 ? rate.toFixed(1) : `${Math.round(rate)}`

/** Formats microseconds. Infinity becomes null in JSON. */
export function formatMicroseconds(us: number | null | undefined): string {
  if (us === undefined) return ''
  if (us === null) return '> 20 s'
  if (us < 1000) return `${us} \u00b5s`
  return us < 1e6 ? `${+(us / 1000).toFixed(1)} ms` : `${+(us / 1e6).toFixed(1)} s`
}

const UNITS = [
  ['d', 86_400],
  ['h', 3600],
  ['min', 60],
  ['s', 1],
] as const

/** Says how long ago a time was. */
export function formatAge(time: string | undefined): string {
  if (time === undefined) return ''
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000)
  const [unit, of] = UNITS.find(([, each]) => seconds >= each) ?? ['s', 1]
  return `${Math.floor(seconds / of)} ${unit} ago`
}

/** The words of a member's name: `recordsLost` is "records lost". */
export const spaced = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)

/** The time of the day. */
export const clock = (time: string | number): string => new Date(time).toLocaleTimeString([], { hour12: false })
