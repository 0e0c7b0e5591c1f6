import { expect, test } from 'vitest'
import { differential } from './differential.ts'
import { mknod } from './mknod.ts'

const { many, findings } = differential(mknod, 2500)

test.runIf(many)('each byte but NUL and the slash occurs in a name', () => {
  const lasts = findings().trials.map(({ case: one }) => one.scene.last)
  const bytes = new Set(lasts.flatMap((last) => (last.kind === 'name' ? last.bytes : [])))
  expect(bytes.size).toBe(254)
})
