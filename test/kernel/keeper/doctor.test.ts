import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Report } from '../../../src/doctor/doctor.ts'

// In a process of its own: the probes put a filter on the thread that asks.
const main = fileURLToPath(new URL('../../../bin/intercede.js', import.meta.url))
const doctor = (before: readonly string[] = []) => {
  const [program, ...args] = [...before, process.execPath, main, 'doctor', '--json']
  const { status, stdout } = spawnSync(program!, args, { encoding: 'utf8' })
  return { status, report: JSON.parse(stdout) as Report }
}
const health = ({ diagnoses }: Report, name: RegExp) =>
  diagnoses.filter((one) => name.test(one.name)).map((one) => one.health)

test('doctor finds user notification on this kernel, and its exit status says whether all that is needed is there', () => {
  const { status, report } = doctor()
  expect(health(report, /^seccomp user notification$/)).toEqual(['ok'])
  expect(report.diagnoses.filter((one) => one.health === 'unknown')).toEqual([])
  expect(status).toBe(report.able ? 0 : 1)
})

test('doctor names the capabilities that a narrowed process lacks', () => {
  const { status, report } = doctor(['setpriv', '--bounding-set', '-mknod', '--inh-caps', '-mknod'])
  expect(status).toBe(1)
  expect(report.diagnoses).toContainEqual(
    expect.objectContaining({
      name: 'capabilities of this process',
      health: 'missing',
      found: expect.stringContaining('CAP_MKNOD'),
    }),
  )
})
