import fc from 'fast-check'
import { compare, kindOf, type Mismatch } from './compare.ts'
import { HUNG } from './conversation.ts'
import type { Difference } from './differences.ts'
import type { Sides, Subject, Trial } from './subject.ts'

/** All mismatches of one kind: how many, and the smallest case that was found. */
interface Group<C> {
  readonly kind: string
  /** Known, but not wanted. */
  readonly known: Difference<C> | undefined
  count: number
  /** The number of the case that shrinking starts from. */
  readonly index: number
  smallest: Mismatch<C>
}

export interface Findings<C> {
  readonly seed: number
  readonly trials: Trial<C>[]
  /** Cases whose caller could not take its place. */
  impossible: number
  readonly wanted: Map<Difference<C>, number>
  /** All others, the known ones too. */
  readonly groups: Map<string, Group<C>>
}

/**
 * A lookup that loses a race with another one starts anew, and the kernel counts the links that it had followed twice: under
 * load a native call with 40 links gives ELOOP, once in 10,000 cases. So that must happen again.
 */
const mayBeChance = <C>({ ours, theirs }: Mismatch<C>): boolean => ours === 'ELOOP' || theirs === 'ELOOP'

/** Makes calls on all sides and sorts what they gave. */
class Experiment<C> {
  readonly #subject: Subject<C>
  readonly #sides: Sides<C>
  readonly findings: Findings<C>

  constructor(subject: Subject<C>, sides: Sides<C>, seed: number) {
    this.#subject = subject
    this.#sides = sides
    this.findings = { seed, trials: [], impossible: 0, wanted: new Map(), groups: new Map() }
  }

  async note(one: C, index: number): Promise<void> {
    const [first, mismatch] = await this.#try(one)
    if (!first) {
      this.findings.impossible++
      return
    }
    const [trial, again] = mismatch && mayBeChance(mismatch) ? await this.#try(one) : [first, mismatch]
    this.findings.trials.push(trial ?? first)
    if (again) this.#sort(again, index)
  }

  async #try(one: C): Promise<readonly [Trial<C> | undefined, Mismatch<C> | undefined]> {
    const trial = await this.#sides.run(one)
    return [trial, trial && (await this.#mismatchOf(trial))]
  }

  #sort(mismatch: Mismatch<C>, index: number): void {
    const { wanted, groups } = this.findings
    const known = this.#known(mismatch)
    if (known?.wanted) {
      wanted.set(known, (wanted.get(known) ?? 0) + 1)
      return
    }
    const kind = this.#kind(mismatch)
    const name = `${kind} ${known?.name}`
    const group = groups.get(name)
    if (group) group.count++
    else groups.set(name, { kind, known, count: 1, index, smallest: mismatch })
  }

  /** Looks for the smallest case with a mismatch of the same kind; `budget` bounds the runs. */
  async shrink(group: Group<C>, budget: number): Promise<void> {
    let left = budget
    const property = fc.asyncProperty(this.#subject.cases, async (one) => {
      if (left-- <= 0) return true
      const [, mismatch] = await this.#try(one)
      if (!mismatch || this.#known(mismatch) !== group.known || this.#kind(mismatch) !== group.kind) return true
      group.smallest = mismatch
      return false
    })
    await fc.check(property, { seed: this.findings.seed, path: String(group.index), numRuns: 1 })
  }

  async #mismatchOf(trial: Trial<C>): Promise<Mismatch<C> | undefined> {
    const found = compare(trial)
    return found && { ...found, record: found.ours === HUNG ? undefined : await this.#sides.record() }
  }

  #known(mismatch: Mismatch<C>): Difference<C> | undefined {
    return this.#subject.differences.find(({ covers }) => covers(mismatch))
  }

  #kind(mismatch: Mismatch<C>): string {
    return kindOf(this.#subject.fields, mismatch)
  }
}

/** Makes `cases` calls on all sides. The same seed makes the same calls. */
export async function experiment<C>(
  subject: Subject<C>,
  sides: Sides<C>,
  { cases, seed, budget = 300 }: { readonly cases: number; readonly seed: number; readonly budget?: number },
): Promise<Findings<C>> {
  const trying = new Experiment(subject, sides, seed)
  let index = 0
  const property = fc.asyncProperty(subject.cases, async (one) => {
    await trying.note(one, index++)
    return true
  })
  const done = await fc.check(property, { seed, numRuns: cases, endOnFailure: true })
  if (done.failed) throw done.errorInstance ?? new Error(`Cannot go on after case ${index}`)
  for (const group of trying.findings.groups.values()) await trying.shrink(group, budget)
  return trying.findings
}
