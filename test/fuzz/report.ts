import { errnoName } from '../../src/abi/errno.ts'
import type { Noted, Outcome } from './attack.ts'

const sum = (numbers: readonly number[]): number => numbers.reduce((one, other) => one + other, 0)

function counted<T>(all: readonly T[], name: (one: T) => string, count: (one: T) => number): Map<string, number> {
  const counts = new Map<string, number>()
  for (const one of all) counts.set(name(one), (counts.get(name(one)) ?? 0) + count(one))
  return new Map([...counts].sort(([, a], [, b]) => b - a))
}

const percent = (part: number, all: number): string => `${((100 * part) / Math.max(1, all)).toFixed(1)} %`
const listed = (counts: ReadonlyMap<string, number>): string =>
  [...counts].map(([name, count]) => `${name} ${count}`).join(', ')

/** Did the engine do something for the caller, whatever the kernel said to it? */
const isAct = ({ verdict, reason }: Noted): boolean =>
  verdict === 'act' || (verdict === 'errno' && reason === 'kernelAnswered')

/** The part of the calls on which the engine acted. */
export const actShare = ({ noted }: Outcome): number =>
  sum(noted.filter(isAct).map(({ count }) => count)) / Math.max(1, sum(noted.map(({ count }) => count)))

/** The acts by verb, and the rest by verdict, for each call; then what the callers saw. */
export function report(outcome: Outcome): string {
  const { seed, said, noted, left, beside, unsaid } = outcome
  const all = sum(noted.map(({ count }) => count))
  const of = (some: readonly Noted[]): number => sum(some.map(({ count }) => count))
  const names = counted(
    noted,
    ({ syscall }) => syscall,
    ({ count }) => count,
  )
  const rows = [...names.keys()].map((name) => {
    const own = noted.filter(({ syscall }) => syscall === name)
    const acts = own.filter(isAct)
    const verdicts = counted(
      own,
      ({ verdict }) => verdict,
      ({ count }) => count,
    )
    const answers = counted(
      acts,
      ({ errno }) => (errno === 0 ? 'done' : errnoName(errno)),
      ({ count }) => count,
    )
    return `  ${name}: ${listed(verdicts)}; acts ${percent(of(acts), of(own))}: ${listed(answers)}`
  })
  const reasons = counted(
    noted.filter((one) => !isAct(one)),
    ({ reason }) => reason,
    ({ count }) => count,
  )
  const seen = Object.entries(said.kinds).map(([kind, { mutated = 0, ...results }]) => {
    const made = sum(Object.values(results))
    return `  ${kind}: ${made}, ${percent(mutated, made)} mutated; ${listed(new Map(Object.entries(results)))}`
  })
  return [
    `seed ${seed}: ${all} calls noted, acts ${percent(of(noted.filter(isAct)), all)}, ${said.compat} of 32 bits; ` +
      `${said.killed} processes killed, ${said.reused} numbers used again`,
    `${beside.started} containers beside, ${beside.executed} programs in them; ${said.met} tasks of others met, ` +
      `${said.stopped} stopped; ${said.through} paths through their links`,
    `capability sets not declared by the build: ${unsaid.join(', ') || 'none'}`,
    ...rows,
    `not acted on: ${listed(reasons)}`,
    'as the callers saw it:',
    ...seen,
    `afterwards: ${left.join(', ')}`,
  ].join('\n')
}
