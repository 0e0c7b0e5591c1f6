// The engine starts beside the container: what makes no call does not wait for it, what makes one does.
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../../support/host.ts'
import { PatchedBuild } from '../../support/patched-build.ts'
import { running, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

/** Less than the ten seconds after which an engine without a heartbeat is killed. */
const LATE_MS = 7000
/** More than those. */
const SLOW_MS = 13_000
const READS = 'const options = JSON.parse(process.argv[2]);'
const SLEEPS = `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${LATE_MS});`

type Ended = SpawnSyncReturns<string> & { readonly took: number }

/** Runs a command with a build, to its end. */
function run(build: PatchedBuild, ...command: string[]): Ended {
  const args = [build.program, 'run', '-c', 'mknod', '--', ...command]
  const start = performance.now()
  const done = spawnSync(process.execPath, args, { encoding: 'utf8', input: '' })
  return { ...done, took: performance.now() - start }
}

const why = unable()
describe.skipIf(why)(withReason('an engine that is late', why), () => {
  let late: PatchedBuild
  beforeAll(() => {
    late = new PatchedBuild('engine/main.js', READS, `${SLEEPS} ${READS}`)
  })
  afterAll(() => late.remove(undefined))

  test('is not waited for by a command that makes no call, and is gone then', async () => {
    const { status, took } = run(late, 'true')
    expect(status).toBe(0)
    expect(took).toBeLessThan(LATE_MS)
    await until('the engine is gone', () => running(fileURLToPath(late.url)).length === 0)
  })

  test('is waited for by a command that makes one', () => {
    const { status, stderr, took } = run(late, 'sh', '-c', 'mknod null c 1 3 && mknod mem c 1 1')
    expect(status).toBe(1)
    expect(stderr).toContain('mknodat left to the kernel: the device 1:1 is not allowed')
    expect(took).toBeGreaterThan(LATE_MS)
  })

  test('is given the time that it needs on a slow machine, as long as it works', async () => {
    const works = `for (const end = Date.now() + ${SLOW_MS}; Date.now() < end; );`
    const slow = new PatchedBuild('engine/main.js', READS, `${works} ${READS}`)
    try {
      const { status, stderr, took } = run(slow, 'mknod', 'null', 'c', '1', '3')
      expect(stderr).toBe('')
      expect(status).toBe(0)
      expect(took).toBeGreaterThan(SLOW_MS)
    } finally {
      await slow.remove(undefined)
    }
  })
})
