import { expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import { ACTIVITY_WORDS, ThreadActivity } from '../../../../src/engine/leader/thread-activity.ts'

/** The milliseconds after which 32 bits are negative, and after which they begin again. */
test.each([0, 2 ** 31 - 8, 2 ** 31, 2 ** 32 - 8, 2 ** 32])(
  'a thread hangs after 16 ms, also %d ms after the start',
  (start) => {
    const words = new Int32Array(new SharedArrayBuffer(4 * ACTIVITY_WORDS))
    const thread = new ThreadActivity(words, 1 as Tid, () => false)
    thread.come()
    thread.begin(3, start)
    expect(thread.countOutHanging(undefined, start + 15.9)).toEqual([])
    expect(thread.countOutHanging(undefined, start + 16)).toEqual([thread.self])
  },
)

test('a thread is one too many while as many older ones work', () => {
  const words = new Int32Array(new SharedArrayBuffer(4 * ACTIVITY_WORDS))
  const [oldest, second, third] = [1, 2, 3].map((tid) => new ThreadActivity(words, tid as Tid, () => false)) as [
    ThreadActivity,
    ThreadActivity,
    ThreadActivity,
  ]
  expect([oldest, second, third].map(({ age }) => age)).toEqual([0, 1, 2])
  const surplus = (): readonly boolean[] => [oldest, second, third].map((each) => each.isSurplus(2))
  for (const each of [oldest, third]) each.come()
  expect(surplus()).toEqual([false, false, false])
  second.come()
  expect(surplus()).toEqual([false, false, true])
  oldest.leave()
  expect(surplus()).toEqual([false, false, false])
})
