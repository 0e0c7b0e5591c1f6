import type { CallRecord } from '../../src/calls/record.ts'
import type { Trial } from './mknod.ts'
import type { Outcome } from './side.ts'

/** That one side said or left something else than another. */
export interface Mismatch {
  readonly trial: Trial
  readonly native: 'member' | 'host' | 'oracles'
  readonly ours: string
  readonly theirs: string
  /** Where results are equal: the lines of the trees that are not, ours first. */
  readonly lines: readonly string[]
  /** What the engine noted; undefined where it was not asked. */
  readonly record: CallRecord | undefined
}

function differing({ tree: ours }: Outcome, { tree: theirs }: Outcome): readonly string[] {
  const only = (some: readonly string[], others: readonly string[]): string[] => {
    const there = new Set(others)
    return some.filter((line) => !there.has(line))
  }
  return [...only(ours, theirs).map((line) => `< ${line}`), ...only(theirs, ours).map((line) => `> ${line}`)]
}

/** The first difference of a trial. Two oracles that do not agree are a fault of the harness and come first. */
export function compare(trial: Trial): Omit<Mismatch, 'record'> | undefined {
  const { ours, natives } = trial
  const { member, host } = natives
  const pairs = [
    ...(host ? ([['oracles', member, host]] as const) : []),
    ['member', ours, member] as const,
    ...(host ? ([['host', ours, host]] as const) : []),
  ]
  for (const [native, one, other] of pairs) {
    const lines = differing(one, other)
    if (one.result !== other.result || lines.length > 0)
      return { trial, native, ours: one.result, theirs: other.result, lines }
  }
  return undefined
}

/** Fields of a line of a tree, for the name of what differs. */
const fields = ['path', 'type', 'mode', 'user', 'group', 'number', 'links', 'target', 'attributes'] as const

function whatDiffers([ours, theirs]: readonly string[]): string {
  if (ours === undefined || theirs === undefined) return 'something more or less in the tree'
  const [one, other] = [ours, theirs].map((line) => line.slice(2).split(' '))
  const names = fields.filter((_, index) => one![index] !== other![index])
  return names.length > 0 ? names.join(' and ') : 'attributes'
}

/** Mismatches with the same kind have, most likely, the same cause. */
export function kindOf({ native, ours, theirs, lines, record }: Mismatch): string {
  const what = ours === theirs ? `${ours}, but other ${whatDiffers(lines)}` : `${ours} instead of ${theirs}`
  if (native === 'oracles') return `the oracles do not agree: ${what}`
  return record ? `${what}: ${record.verdict}, ${record.reason}` : what
}
