import { expect, test } from 'vitest'
// @ts-expect-error: a script
import { journalCost } from '../../../bench/journal.js'

/** Microseconds a call: the benchmark's goal is half of one, on a machine that does nothing else. */
const MUCH = 5

test('what is written of a call in the journal takes next to nothing', () => {
  const cost = (journalCost as () => number)()
  expect(cost).toBeGreaterThan(0)
  expect(cost).toBeLessThan(MUCH)
})
