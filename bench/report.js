// From samples to medians, ratios and the table.

/** @typedef {import('./sides.js').Sample} Sample */
/** @typedef {{ name: string, unit: 'us' | 'calls/s', sides: Map<string, Sample[]>, goal?: Goal }} Measured */
/** @typedef {{ text: string, met: (of: (side: string) => number) => boolean }} Goal */

const median = (/** @type {number[]} */ values) => [...values].sort((a, b) => a - b)[values.length >> 1]

/** The figure of one side: the median over the rounds, of the median call or of the throughput. */
const figure = (/** @type {Measured} */ { unit }, /** @type {Sample[]} */ samples) =>
  median(samples.map((sample) => (unit === 'us' ? sample.medianNs / 1000 : sample.perSecond)))

/** @returns rows of numbers: what goes to JSON, and what the table shows */
export function summarize(/** @type {Measured[]} */ measured) {
  return measured.map((bench) => {
    const value = (/** @type {string} */ side) => figure(bench, bench.sides.get(side) ?? [])
    const ours = bench.sides.has('intercede') ? value('intercede') : undefined
    return {
      name: bench.name,
      unit: bench.unit,
      goal: bench.goal?.text,
      met: ours === undefined ? undefined : bench.goal?.met(value),
      sides: [...bench.sides].map(([side, samples]) => ({
        side,
        value: value(side),
        p99Us: median(samples.map(({ p99Ns }) => p99Ns / 1000)),
        ratio: ours === undefined ? undefined : ours / value(side),
        samples,
      })),
    }
  })
}

/** @returns {string} */
export function table(/** @type {ReturnType<typeof summarize>} */ benches) {
  const lines = []
  for (const { name, unit, sides, goal, met } of benches) {
    lines.push('', name)
    for (const { side, value, p99Us, ratio } of sides) {
      const number = value.toFixed(unit === 'us' ? 1 : 0).padStart(10)
      const compared = ratio === undefined || side === 'intercede' ? '' : `   intercede is ${ratio.toFixed(2)} x this`
      lines.push(`  ${side.padEnd(32)}${number} ${unit.padEnd(8)} p99 ${p99Us.toFixed(1).padStart(8)} us${compared}`)
    }
    if (met !== undefined) lines.push(`  goal: ${goal}: ${met ? 'met' : 'NOT met'}`)
  }
  return lines.join('\n')
}
