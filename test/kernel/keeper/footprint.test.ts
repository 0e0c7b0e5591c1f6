// The memory and the threads of our processes while they wait, in wide limits: bench/footprint.js measures them.
import { mkdtempSync, rmSync } from 'node:fs'
import { expect, test } from 'vitest'
// @ts-expect-error: the bench is JavaScript
import { measureFootprints } from '../../../bench/footprint.js'
import { missing } from '../../support/fixtures.ts'
import { unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'
import { SLOWNESS } from '../../support/slowness.ts'

/** The limits here are wide: the bench waits longer. */
const SETTLED_MS = 2000

interface Footprint {
  readonly name: string
  readonly megabytes: number
  readonly threads: number
}

const why = missing('gcc') ?? unable()
test.skipIf(why)(withReason('what waits is small, also with many containers', why), { timeout: 180_000 }, async () => {
  const folder = mkdtempSync('/var/tmp/intercede-test-')
  try {
    const [idle, full, run, bare]: readonly Footprint[] = await measureFootprints(folder, 1, SETTLED_MS * SLOWNESS)
    expect(idle).toMatchObject({ name: 'serve, idle', threads: 14 })
    // Node 24 takes up to half as much again as Node 20, and shared pages count for more where no other Node runs.
    expect(idle!.megabytes).toBeLessThan(150)
    expect(full!.megabytes - idle!.megabytes).toBeLessThan(25)
    expect(run!.megabytes).toBeLessThan(130)
    expect(bare!.megabytes).toBeLessThan(60)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
