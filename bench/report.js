// From samples to medians, ratios and the table.

/** @typedef {import('./sides.js').Sample} Sample */
/** @typedef {'us' | 'calls/s'} Unit */
/** @typedef {{ text: string, met: (compare: Compare) => boolean }} Goal */
/** @typedef {{ name: string, unit: Unit, sides: Map<string, Sample[]>, goal?: Goal }} Measured */
/** @typedef {{ ratio: (side: string) => number }} Compare */
/** @typedef {ReturnType<typeof summarize>[number]} Summary */

export const OURS = 'intercede'

const median = (/** @type {number[]} */ values) => [...values].sort((a, b) => a - b)[values.length >> 1]

/** What one round of one side gave: the median call, or the throughput. */
const figures = (/** @type {Unit} */ unit, /** @type {Sample[]} */ samples = []) =>
  samples.map((sample) => (unit === 'us' ? sample.medianNs / 1000 : sample.perSecond))

/**
 * Compares ours with another side round by round, since both then met the same mood of the machine, and takes the median
 * over the rounds.
 *
 * @returns {Compare}
 */
function comparison(/** @type {Measured} */ { unit, sides }) {
  const ours = figures(unit, sides.get(OURS))
  return {
    ratio(side) {
      const theirs = figures(unit, sides.get(side))
      return median(ours.map((our, round) => our / theirs[round]))
    },
  }
}

/** @returns rows of numbers: what goes to JSON, and what the table shows */
export function summarize(/** @type {Measured[]} */ measured) {
  return measured.map((bench) => {
    const { name, unit, sides, goal } = bench
    const compare = sides.has(OURS) ? comparison(bench) : undefined
    return {
      name,
      unit,
      goal: goal?.text,
      met: compare && goal?.met(compare),
      sides: [...sides].map(([side, samples]) => ({
        side,
        value: median(figures(unit, samples)),
        p99Us: median(samples.map(({ p99Ns }) => p99Ns / 1000)),
        ratio: side === OURS ? undefined : compare?.ratio(side),
        samples,
      })),
    }
  })
}

export const number = (/** @type {number} */ value, /** @type {Unit} */ unit) => value.toFixed(unit === 'us' ? 1 : 0)

/** @returns {string} */
export function table(/** @type {Summary[]} */ benches) {
  const lines = []
  for (const { name, unit, sides, goal, met } of benches) {
    lines.push('', name)
    for (const { side, value, p99Us, ratio } of sides) {
      const compared = ratio === undefined ? ' '.repeat(10) : `${ratio.toFixed(2)} x this`.padStart(10)
      const cells = [side.padEnd(28), compared, number(value, unit).padStart(9), unit.padEnd(7)]
      lines.push(`  ${cells.join(' ')}  p99 ${p99Us.toFixed(1).padStart(8)} us`)
    }
    if (met !== undefined) lines.push(`  goal: ${goal}: ${met ? 'met' : 'NOT met'}`)
  }
  return lines.join('\n')
}
