import { expect, test } from 'vitest'
import { RateLimit } from '../../../src/reader/rate-limit.ts'

test('RateLimit lets so many pass in a second, at once or one after the other', () => {
  let now = 1000
  const limit = new RateLimit(2000, () => now)
  expect(limit.left).toBe(2000)
  limit.pass(2000)
  expect(limit.left).toBe(0)
  now += 100
  expect(limit.left).toBe(200)
  limit.pass(150)
  now += 10_000
  expect(limit.left).toBe(2000)
})
