import { expect, test, vi } from 'vitest'
import { waitUntilAsleep } from '../../../../src/engine/replay/replay.ts'

const waiting = (): boolean => true

test('a caller that sleeps at the first look costs no pause', () => {
  const mayBlock = vi.fn()
  expect(waitUntilAsleep(waiting, 1000, mayBlock, () => 'seen')).toBe('seen')
  expect(mayBlock).not.toHaveBeenCalled()
})

test('the lead is passed once, before the first pause', () => {
  const mayBlock = vi.fn()
  const passed: number[] = []
  const look = (): 'seen' | undefined => (passed.push(mayBlock.mock.calls.length) < 7 ? undefined : 'seen')
  expect(waitUntilAsleep(waiting, 1000, mayBlock, look)).toBe('seen')
  expect(passed).toEqual([0, 0, 0, 0, 1, 1, 1])
})

test('a caller that stays awake is looked at ever less often, and at last no more', () => {
  const look = vi.fn(() => undefined)
  expect(waitUntilAsleep(waiting, 100, () => {}, look)).toBe('awake')
  // By steps of 20 us there would be 1,000 of them.
  expect(look.mock.calls.length).toBeLessThan(25)
})

test('a call that does not wait any more is gone, whatever was seen', () => {
  const mayBlock = vi.fn()
  expect(
    waitUntilAsleep(
      () => false,
      1000,
      mayBlock,
      () => 'of another task',
    ),
  ).toBe('gone')
  expect(mayBlock).not.toHaveBeenCalled()
})
