import { escaped } from '../calls/escape.ts'

export type Labels = Readonly<Record<string, string>>
type MetricType = 'counter' | 'gauge'

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
 * @param series each with its labels, as `labelled` shows them
 */
export function metric(
  name: string,
  type: MetricType,
  help: string,
  series: Iterable<readonly [labels: string, value: number]>,
): string {
  let text = `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
  for (const [labels, value] of series) text += `${name}${labels} ${value}\n`
  return text
}

/** The distribution of durations. */
export interface Histogram {
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
