import fc from 'fast-check'
import { compare, kindOf, type Mismatch } from './compare.ts'
import { type Difference, differenceOf, isWanted } from './differences.ts'
import { type MknodCase, type MknodSides, mknodCase, type Trial } from './mknod.ts'
import { HUNG } from './side.ts'

/** All mismatches of one kind: how many, and the smallest case that was found. */
interface Group {
  readonly kind: string
  /** Known, but not wanted. */
  readonly known: Difference | undefined
  count: number
  /** The number of the case that shrinking starts from. */
  readonly index: number
  smallest: Mismatch
}

export interface Findings {
  readonly seed: number
  readonly trials: Trial[]
  /** Cases whose caller could not take its place. */
  impossible: number
  readonly wanted: Map<Difference, number>
  /** All others, the known ones too. */
  readonly groups: Map<string, Group>
}

async function mismatchOf(sides: MknodSides, trial: Trial): Promise<Mismatch | undefined> {
  const found = compare(trial)
  return found && { ...found, record: found.ours === HUNG ? undefined : await sides.record() }
}

async function note(sides: MknodSides, findings: Findings, one: MknodCase, index: number): Promise<void> {
  const trial = await sides.run(one)
  if (!trial) {
    findings.impossible++
    return
  }
  findings.trials.push(trial)
  const mismatch = await mismatchOf(sides, trial)
  if (!mismatch) return
  const known = differenceOf(mismatch)
  if (known && isWanted(known)) {
    findings.wanted.set(known, (findings.wanted.get(known) ?? 0) + 1)
    return
  }
  const kind = kindOf(mismatch)
  const name = `${kind} ${known?.name}`
  const group = findings.groups.get(name)
  if (group) group.count++
  else findings.groups.set(name, { kind, known, count: 1, index, smallest: mismatch })
}

/** Looks for the smallest case with a mismatch of the same kind; `budget` bounds the runs. */
async function shrink(sides: MknodSides, group: Group, seed: number, budget: number): Promise<void> {
  let left = budget
  const property = fc.asyncProperty(mknodCase, async (one) => {
    if (left-- <= 0) return true
    const trial = await sides.run(one)
    const mismatch = trial && (await mismatchOf(sides, trial))
    if (!mismatch || differenceOf(mismatch) !== group.known || kindOf(mismatch) !== group.kind) return true
    group.smallest = mismatch
    return false
  })
  await fc.check(property, { seed, path: String(group.index), numRuns: 1 })
}

/** Makes `cases` calls on all sides. The same seed makes the same calls. */
export async function experiment(sides: MknodSides, cases: number, seed: number, budget = 300): Promise<Findings> {
  const findings: Findings = { seed, trials: [], impossible: 0, wanted: new Map(), groups: new Map() }
  let index = 0
  const property = fc.asyncProperty(mknodCase, async (one) => {
    await note(sides, findings, one, index++)
    return true
  })
  const done = await fc.check(property, { seed, numRuns: cases, endOnFailure: true })
  if (done.failed) throw done.errorInstance ?? new Error(`Cannot go on after case ${index}`)
  for (const group of findings.groups.values()) await shrink(sides, group, seed, budget)
  return findings
}
