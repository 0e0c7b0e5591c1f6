import { expect, test } from 'vitest'
import { CancelRateLimit } from '../../../../src/engine/replay/cancel-rate-limit.ts'

/** As many cost nothing; at one in 2 ms they never end. */
const BURST = 100

const table = (): CancelRateLimit => new CancelRateLimit(new Int32Array(new SharedArrayBuffer(8)))

function countMany(cancellations: CancelRateLimit, count: number, ms: number): readonly number[] {
  return Array.from({ length: count }, () => cancellations.count(0, ms))
}

test('some cancelled calls at once cost nothing, each one more 2 ms', () => {
  const kept = countMany(table(), BURST + 3, 5000)
  expect(kept.slice(0, BURST).every((ms) => ms === 0)).toBe(true)
  expect(kept.slice(BURST)).toEqual([2, 4, 6])
})

test('time gives back what was used, and no more than that', () => {
  const cancellations = table()
  countMany(cancellations, BURST, 5000)
  expect(countMany(cancellations, 3, 5004)).toEqual([0, 0, 2])
  expect(countMany(cancellations, BURST + 1, 50_000).at(-1)).toBe(2)
})

test('a call that is answered pays for one, and nothing for later', () => {
  const cancellations = table()
  cancellations.pay(0, 5000)
  countMany(cancellations, BURST + 2, 5000)
  cancellations.pay(0, 5000)
  expect(countMany(cancellations, 2, 5000)).toEqual([4, 6])
  for (let answered = 0; answered < 2 * BURST; answered++) cancellations.pay(0, 5000)
  expect(countMany(cancellations, BURST + 1, 5000).at(-1)).toBe(2)
})

test('each container has a CancelRateLimit of its own', () => {
  const cancellations = table()
  countMany(cancellations, BURST + 1, 5000)
  expect(cancellations.count(1, 5000)).toBe(0)
})

test('a clock that comes round costs nothing', () => {
  const cancellations = table()
  countMany(cancellations, BURST + 1, 5000)
  const half = 2 ** 31 / 1000
  for (const later of [half / 2, half, half + 5000, 1.5 * half, 2 * half - 5000]) {
    expect(cancellations.count(0, 5000 + later)).toBe(0)
  }
})
