import { expect, test } from 'vitest'
import { withReason } from '../support/skipped.ts'
import { differential } from './differential.ts'
import { mknod } from './mknod.ts'

const { few, findings } = differential(mknod, 2500)

test.skipIf(few)(withReason('each byte but NUL and the slash occurs in a name', few), () => {
  const lasts = findings().trials.map(({ case: one }) => one.scene.last)
  const bytes = new Set(lasts.flatMap((last) => (last.kind === 'name' ? last.bytes : [])))
  expect(bytes.size).toBe(254)
})
