import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { experiment, type Findings } from './experiment.ts'
import { MknodSides } from './mknod.ts'
import { summary, table, tallyOf } from './report.ts'

const cases = Number(process.env.DIFFERENTIAL_CASES ?? 2500)
const seed = Number(process.env.DIFFERENTIAL_SEED ?? 1)

let sides: MknodSides
let findings: Findings

beforeAll(async () => {
  sides = await MknodSides.start()
  findings = await experiment(sides, cases, seed)
  const text = `${table(findings)}\n\n${summary(findings)}\n`
  console.log(text)
  if (process.env.DIFFERENTIAL_REPORT) writeFileSync(process.env.DIFFERENTIAL_REPORT, text)
}, 600_000)
afterAll(() => sides?.close())

test('mknod gives what the native call gives', () => {
  const unknown = [...findings.groups.values()].filter(({ known }) => !known)
  expect(unknown.map(({ kind, count }) => `${count} times ${kind}`)).toEqual([])
})

test.runIf(cases >= 2000)('each errno occurs at least 20 times on both sides', () => {
  const tally = tallyOf(findings.trials)
  const errnos = ['ok', 'EACCES', 'EBADF', 'EEXIST', 'EFAULT', 'ELOOP', 'ENAMETOOLONG', 'ENOENT', 'ENOSPC', 'ENOTDIR']
  const rare = [...errnos, 'EOVERFLOW', 'EPERM', 'EROFS'].filter((errno) => Math.min(...(tally.get(errno) ?? [0])) < 20)
  expect(rare).toEqual([])
})

test.runIf(cases >= 2000)('each byte but NUL and the slash occurs in a name', () => {
  const lasts = findings.trials.map(({ case: one }) => one.scene.last)
  const bytes = new Set(lasts.flatMap((last) => (last.kind === 'name' ? last.bytes : [])))
  expect(bytes.size).toBe(254)
})
