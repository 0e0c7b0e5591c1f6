import type { CallRecord } from '../../src/calls/record.ts'
import type { Outcome, Trial } from './subject.ts'

/** That one side said or left something else than another. */
export interface Mismatch<C> {
  readonly trial: Trial<C>
  /** The native that ours differs from, or ORACLES. */
  readonly native: string
  readonly ours: string
  readonly theirs: string
  /** Where results are equal: the lines of the effects that are not, ours first. */
  readonly lines: readonly string[]
  /** What the engine noted; undefined where it was not asked. */
  readonly record: CallRecord | undefined
}

/** Natives differ from each other. */
const ORACLES = 'oracles'

function differing({ effect: ours }: Outcome, { effect: theirs }: Outcome): readonly string[] {
  const only = (some: readonly string[], others: readonly string[]): string[] => {
    const there = new Set(others)
    return some.filter((line) => !there.has(line))
  }
  return [...only(ours, theirs).map((line) => `< ${line}`), ...only(theirs, ours).map((line) => `> ${line}`)]
}

/** The first difference of a trial. Oracles that do not agree are a fault of the harness and come first. */
export function compare<C>(trial: Trial<C>): Omit<Mismatch<C>, 'record'> | undefined {
  const { ours, natives } = trial
  const [first, ...others] = Object.values(natives)
  const pairs: readonly (readonly [string, Outcome, Outcome])[] = [
    ...others.map((other) => [ORACLES, first!, other] as const),
    ...Object.entries(natives).map(([name, native]) => [name, ours, native] as const),
  ]
  for (const [native, one, other] of pairs) {
    const lines = differing(one, other)
    if (one.result !== other.result || lines.length > 0)
      return { trial, native, ours: one.result, theirs: other.result, lines }
  }
  return undefined
}

function whatDiffers(fields: readonly string[], [ours, theirs]: readonly string[]): string {
  if (ours === undefined || theirs === undefined) return 'something more or less'
  const [one, other] = [ours, theirs].map((line) => line.slice(2).split(' '))
  const names = fields.filter((_, index) => one![index] !== other![index])
  return names.length > 0 ? names.join(' and ') : fields.at(-1)!
}

/** Mismatches with the same kind have, most likely, the same cause. */
export function kindOf<C>(fields: readonly string[], { native, ours, theirs, lines, record }: Mismatch<C>): string {
  const what = ours === theirs ? `${ours}, but other ${whatDiffers(fields, lines)}` : `${ours} instead of ${theirs}`
  if (native === ORACLES) return `the oracles do not agree: ${what}`
  return record ? `${what}: ${record.verdict}, ${record.reason}` : what
}
