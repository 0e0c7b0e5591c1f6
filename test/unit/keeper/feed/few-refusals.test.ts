import { expect, test } from 'vitest'
import { FewRefusals } from '../../../../src/keeper/log/call-log.ts'

test('each message passes a few times a minute, so many do, and the others are counted once the minute is over', () => {
  const few = new FewRefusals(5)
  const taken = ['a', 'a', 'a', 'a', 'a', 'b', 'c', 'b'].map((message, time) => few.take(message, 1000 + time))
  expect(taken).toEqual([true, true, true, true, false, true, false, false])
  expect(few.leftOut(60_999)).toBe(0)
  expect(few.leftOut(61_000)).toBe(3)
  expect(few.leftOut(62_000)).toBe(0)
  expect(few.take('c', 62_000)).toBe(true)
})

test('a clock that was set back begins another minute', () => {
  const few = new FewRefusals(1)
  expect([few.take('a', 100_000), few.take('a', 100_001), few.take('a', 5)]).toEqual([true, false, true])
  expect(few.rest()).toBe(1)
})
