// What the first call of a kind waits for, and the first after the engine was killed, beside "node -e 0" of the same run, in wide
// limits: bench/firsts.js measures it.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { expect, test } from 'vitest'
// @ts-expect-error: the bench is JavaScript
import { measureFirsts } from '../../../bench/firsts.js'
import { missing } from '../../support/fixtures.ts'
import { withReason } from '../../support/skipped.ts'

const ROUNDS = 3
interface FirstRow {
  readonly name: string
  readonly ratio: number
}

/** A mount waits for a mounter, which starts a program of its own and unmounts twice, for which the kernel waits. */
const LIMITS = [25, 15, 25, 5]

test.skipIf(missing('gcc'))(
  withReason('first calls wait for little more than a start of Node', missing('gcc')),
  async () => {
    const folder = mkdtempSync('/var/tmp/intercede-test-')
    try {
      chmodSync(folder, 0o755)
      const rows: readonly FirstRow[] = await measureFirsts(folder, ROUNDS)
      const met = rows.map(({ name, ratio }, at) => ratio < LIMITS[at]! || `${name}: ${ratio.toFixed(1)} N`)
      expect(met).toEqual(LIMITS.map(() => true))
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  },
)
