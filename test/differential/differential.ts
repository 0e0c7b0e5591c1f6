import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { withReason } from '../support/skipped.ts'
import { experiment, type Findings } from './experiment.ts'
import { summary, table, tallyOf } from './report.ts'
import type { Sides, Subject } from './subject.ts'

/**
 * The tests of one subject: makes its cases on all sides before them.
 *
 * @param usually how many cases, if nobody asks for a number; with fewer, what is rare may be absent
 * @returns why what is rare need not be there, if it need not, and what was found, once tests run
 */
export function differential<C>(
  subject: Subject<C>,
  usually: number,
): { readonly few: string | undefined; readonly findings: () => Findings<C> } {
  const cases = Number(process.env.DIFFERENTIAL_CASES ?? usually)
  const seed = Number(process.env.DIFFERENTIAL_SEED ?? 1)
  const few = cases >= usually ? undefined : 'too few cases for what is rare'
  let sides: Sides<C> | undefined
  let findings: Findings<C>

  beforeAll(async () => {
    sides = await subject.start()
    findings = await experiment(subject, sides, { cases, seed })
    const text = `${table(subject, findings)}\n\n${summary(subject, findings)}\n`
    console.log(text)
    if (process.env.DIFFERENTIAL_REPORT) writeFileSync(process.env.DIFFERENTIAL_REPORT, text)
  }, 600_000)
  afterAll(() => sides?.close())

  test(`${subject.name} gives what the native call gives`, () => {
    const unknown = [...findings.groups.values()].filter(({ known }) => !known)
    expect(unknown.map(({ kind, count }) => `${count} times ${kind}`)).toEqual([])
  })

  test.skipIf(few)(withReason('each result occurs at least 20 times on both sides', few), () => {
    const tally = tallyOf(findings.trials, subject.counted)
    expect(subject.results.filter((result) => Math.min(...(tally.get(result) ?? [0])) < 20)).toEqual([])
  })

  return { few, findings: () => findings }
}
