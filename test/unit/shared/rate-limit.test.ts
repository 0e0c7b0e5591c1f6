import { expect, test } from 'vitest'
import { REPLY_CACHE_WORDS, ReplyCache } from '../../../src/engine/replay/reply-cache.ts'
import { RateLimit } from '../../../src/shared/rate-limit.ts'

const table = (): RateLimit =>
  new RateLimit(new Int32Array(new SharedArrayBuffer(8)), { unit: 50, burst: 64, longest: 1000 })

const many = (limit: RateLimit, count: number, ms: number): readonly number[] =>
  Array.from({ length: count }, () => limit.take(0, 1, ms))

// Also where the count of 50 ms has more bits than a word.
test.each([1000, 50 * 2 ** 31 - 100, 50 * 2 ** 32 + 1000])(
  '64 at once, then one each 50 ms, from %d ms on',
  (start) => {
    const limit = table()
    expect(limit.left(0, start)).toBe(64)
    expect(many(limit, 64, start)).toEqual(Array(64).fill(0))
    expect(limit.left(0, start)).toBe(0)
    expect(many(limit, 3, start)).toEqual([50, 100, 150])
    expect(limit.left(0, start)).toBe(-3)
    expect(many(limit, 2, start + 200)).toEqual([0, 50])
    expect(limit.left(0, start + 1_000_000)).toBe(64)
    expect(many(limit, 65, start + 1_000_000)).toEqual([...Array(64).fill(0), 50])
  },
)

test('each word is for itself, and begins as if nothing was taken', () => {
  const limit = table()
  many(limit, 70, 5000)
  expect(limit.take(1, 1, 5000)).toBe(0)
  limit.forget(0)
  expect(limit.take(0, 1, 5000)).toBe(0)
})

test('nobody owes more than the longest', () => {
  const limit = table()
  limit.take(0, 100_000, 5000)
  expect(limit.take(0, 1, 5000)).toBe(50 * (1000 - 64))
})

test('a unit that is given back is one that was taken', () => {
  const limit = table()
  limit.giveBack(0, 5000)
  expect(limit.left(0, 5000)).toBe(64)
  many(limit, 66, 5000)
  limit.giveBack(0, 5000)
  expect(limit.take(0, 1, 5000)).toBe(100)
  for (let unit = 0; unit < 200; unit++) limit.giveBack(0, 5000)
  expect(limit.left(0, 5000)).toBe(64)
})

test('a clock that comes round costs nothing', () => {
  const limit = table()
  many(limit, 65, 5000)
  const half = 50 * 2 ** 31
  for (const later of [half / 2, half, half + 50_000, 1.5 * half, 2 * half - 100_000])
    expect(limit.left(0, 5000 + later)).toBe(64)
})

test('some cancelled calls of a container at once cost nothing, each one more 2 ms', () => {
  const cache = new ReplyCache(new Int32Array(new SharedArrayBuffer(4 * 2 * REPLY_CACHE_WORDS)))
  const cancelled = (count: number, ms: number): readonly number[] =>
    Array.from({ length: count }, () => cache.cancelled(1, ms))
  expect(cancelled(100, 5000).every((ms) => ms === 0)).toBe(true)
  expect(cancelled(3, 5000)).toEqual([2, 4, 6])
  expect(cache.cancelled(0, 5000)).toBe(0)
})
