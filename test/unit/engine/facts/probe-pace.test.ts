import { expect, test } from 'vitest'
import { ProbePace } from '../../../../src/engine/facts/probe-pace.ts'

function paceAt(start: number) {
  const clock = { now: start }
  return { clock, pace: new ProbePace(new Int32Array(2), () => clock.now) }
}
const times = (count: number, wait: () => number): number[] => Array.from({ length: count }, wait)

// Also where the count of 50 ms has more bits than a word.
test.each([1000, 50 * 2 ** 31 - 100, 50 * 2 ** 32 + 1000])(
  '64 at once, then one each 50 ms, from %d ms on',
  (start) => {
    const { clock, pace } = paceAt(start)
    pace.forget(0)
    expect(times(64, () => pace.wait(0))).toEqual(Array(64).fill(0))
    expect(times(3, () => pace.wait(0))).toEqual([50, 100, 150])
    clock.now += 150 + 50
    expect(times(2, () => pace.wait(0))).toEqual([0, 50])
    clock.now += 1_000_000
    expect(times(64, () => pace.wait(0))).toEqual(Array(64).fill(0))
  },
)

test('each container for itself, and a new one from the start', () => {
  const { pace } = paceAt(0)
  times(70, () => pace.wait(0))
  expect(pace.wait(1)).toBe(0)
  pace.forget(0)
  expect(pace.wait(0)).toBe(0)
})
