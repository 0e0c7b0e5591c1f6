import { expect, test } from 'vitest'
import { JOURNAL_SIZE, SLOT, Slots, STATE } from '../../../../src/link/journal.ts'

test.each([
  { state: 'received', seconds: 11, count: 1 },
  { state: 'acting', seconds: 11, count: 1 },
  { state: 'acting', seconds: 9, count: 0 },
  { state: 'receiving', seconds: 11, count: 0 },
  { state: 'free', seconds: 11, count: 0 },
] as const)(
  'a call in the state $state since $seconds seconds: $count counts as stuck',
  ({ state, seconds, count }) => {
    const slots = new Slots(new ArrayBuffer(JOURNAL_SIZE))
    const time = 1e12
    const slot = slots.take({ listener: 0, container: 7, thread: 0 })
    slots.view.setFloat64(slot + SLOT.since, time - 1000 * seconds, true)
    slots.setState(slot, STATE[state])
    expect(slots.stuck(time)).toEqual(new Array(count).fill(7))
  },
)
