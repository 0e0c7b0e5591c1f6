import { expect, test } from 'vitest'
import { JOURNAL_SIZE, SLOTS, Slots, STATE } from '../../../../src/link/journal.ts'

const ORIGIN = { listener: 5, container: 6, thread: 7 }

test('slots are taken zeroed, and none when all are in use', () => {
  const memory = new ArrayBuffer(JOURNAL_SIZE)
  const slots = new Slots(memory)
  const taken = new Set<number>()
  for (let index = 1; index <= SLOTS; index++) {
    const at = index === SLOTS ? slots.takeLast(ORIGIN) : slots.take(ORIGIN)
    slots.notification(at).fill(255)
    slots.setState(at, STATE.received)
    taken.add(at)
  }
  expect(taken.size).toBe(SLOTS)
  expect(slots.take(ORIGIN)).toBe(-1)
  expect(slots.takeLast(ORIGIN)).toBe(-1)
  const [free] = taken
  slots.setState(free!, STATE.free)
  expect(slots.take(ORIGIN)).toBe(free)
  expect(slots.notification(free!).every((byte) => byte === 0)).toBe(true)
})
