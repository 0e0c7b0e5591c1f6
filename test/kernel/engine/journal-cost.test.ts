import { expect, test } from 'vitest'
// @ts-expect-error: a script
import { journalCost } from '../../../bench/journal.js'
import type { Container } from '../../../src/caller/identity/container.ts'
import { receivedCall } from '../../../src/engine/serve/call-end.ts'

/** Microseconds a call: the benchmark's goal is half of one, on a machine that does nothing else. */
const MUCH = 5

test('what is written of a call in the journal takes next to nothing', () => {
  const cost = (journalCost as () => number)()
  expect(cost).toBeGreaterThan(0)
  expect(cost).toBeLessThan(MUCH)
})

/** What was made last: without it V8 would make nothing. */
const kept: object[] = []

/** Milliseconds that `make` takes for so many objects, the least of several tries. */
const timeOf = (make: (slot: number) => object): number =>
  Math.min(
    ...Array.from({ length: 5 }, () => {
      const begun = performance.now()
      for (let slot = 0; slot < 20_000; slot++) kept[slot & 63] = make(slot)
      return performance.now() - begun
    }),
  )

test('the object of a call costs about what a literal does', () => {
  const container = {} as Container
  const literal = timeOf((slot) => ({
    slot,
    listenerFd: 3,
    container,
    start: slot + 0.5,
    handler: undefined,
    replay: undefined,
  }))
  const call = timeOf((slot) => receivedCall({ slot, listenerFd: 3, container, start: slot + 0.5 }))
  // With a spread in it: 40 times.
  expect(call).toBeLessThan(10 * literal)
})
