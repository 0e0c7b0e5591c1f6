import { expect, test } from 'vitest'
import { poolShare } from '../../../../src/engine/helpers/pool-share.ts'

test.each([
  { taken: 0, share: 2 },
  { taken: 3, share: 2 },
  { taken: 4, share: 1 },
  { taken: 8, share: 1 },
])('poolShare() of eight with $taken taken: $share', ({ taken, share }) => expect(poolShare(taken, 8, 2)).toBe(share))
