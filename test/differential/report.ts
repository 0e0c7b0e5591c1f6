import type { Mismatch } from './compare.ts'
import type { Findings } from './experiment.ts'
import type { Subject, Trial } from './subject.ts'

type Tally = Map<string, [ours: number, native: number]>

function add(tally: Tally, result: string, side: 0 | 1): void {
  const counts = tally.get(result) ?? [0, 0]
  counts[side]++
  tally.set(result, counts)
}

/** @param counted the native whose results are counted beside ours */
export function tallyOf<C>(trials: readonly Trial<C>[], counted: string): Tally {
  const tally: Tally = new Map()
  for (const { ours, natives } of trials) {
    add(tally, ours.result, 0)
    const native = natives[counted]
    if (native) add(tally, native.result, 1)
  }
  return tally
}

const cells = (tally: Tally): string =>
  [...tally]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([result, [ours, native]]) => `${result} ${ours}/${native}`)
    .join(', ')

/** Counts as "ours/native", for each result and each feature of the cases. */
export function table<C>({ features, counted }: Subject<C>, { trials }: Findings<C>): string {
  const groups = new Map<string, Trial<C>[]>()
  for (const trial of trials)
    for (const feature of features(trial.case)) groups.set(feature, [...(groups.get(feature) ?? []), trial])
  const rows = [...groups].sort(([a], [b]) => (a < b ? -1 : 1))
  const width = Math.max(...rows.map(([feature]) => feature.length))
  return [
    `${'all'.padEnd(width)}  ${cells(tallyOf(trials, counted))}`,
    ...rows.map(([feature, some]) => `${feature.padEnd(width)}  ${cells(tallyOf(some, counted))}`),
  ].join('\n')
}

const SHOWN = 120
export const shorten = (text: string): string =>
  text.length > SHOWN ? `${text.slice(0, SHOWN)}... (${text.length})` : text

/** One mismatch in a few lines, without what a reader can leave out. */
function describe<C>(subject: Subject<C>, { trial, lines, native }: Mismatch<C>): string {
  return [...subject.describe(trial.case), `compared with ${native}`, ...lines.slice(0, 24).map(shorten)]
    .map((line) => `  ${line}`)
    .join('\n')
}

export function summary<C>(subject: Subject<C>, findings: Findings<C>): string {
  const { seed, trials, impossible, wanted, groups: all } = findings
  const groups = [...all.values()].sort((a, b) => b.count - a.count)
  const several = trials.filter(({ natives }) => Object.keys(natives).length > 1).length
  return [
    `${subject.name}, seed ${seed}: ${trials.length} cases, ${several} of them with several natives; ${impossible} had no possible caller`,
    '',
    ...[...wanted].map(([{ name, why }, count]) => `wanted, ${count} times: ${name}. ${why}`),
    ...groups.map(({ known, count, kind, smallest }) => {
      const title = known ? `To be mended, ${count} times: ${known.name}. ${known.why}` : `MISMATCH, ${count} times`
      return `\n${title}\n  ${kind}\n${describe(subject, smallest)}`
    }),
  ].join('\n')
}
