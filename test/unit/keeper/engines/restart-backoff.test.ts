import { describe, expect, test } from 'vitest'
import { RestartBackoff } from '../../../../src/keeper/engines/restart-backoff.ts'

const SECOND = 1000

/** The waits after engines that end one after the other. */
function waits(count: number, end: (index: number) => Parameters<RestartBackoff['after']>[0]): number[] {
  const restarts = new RestartBackoff(30 * SECOND)
  return Array.from({ length: count }, (_, index) => restarts.after(end(index)))
}

describe('Restarts', () => {
  test('one engine after the other starts at once, also if somebody ends them all the time', () => {
    expect(waits(50, (index) => ({ at: index * SECOND, failed: false, wasReady: true }))).toEqual(Array(50).fill(0))
  })

  test('engines that fail now and then start at once', () => {
    expect(waits(50, (index) => ({ at: 5 * index * SECOND, failed: true, wasReady: true }))).toEqual(Array(50).fill(0))
  })

  test('after five that fail within ten seconds it waits, each time twice as long, for five minutes at most', () => {
    const all = waits(40, (index) => ({ at: index * SECOND, failed: true, wasReady: true }))
    expect(all.filter((pause) => pause > 0).map((pause) => pause / SECOND)).toEqual([
      30, 60, 120, 240, 300, 300, 300, 300,
    ])
    expect(all.findIndex((pause) => pause > 0)).toBe(4)
  })

  test('a week after a pause the next one is as short as the first', () => {
    const restarts = new RestartBackoff(30 * SECOND)
    const fail = (from: number): number[] =>
      Array.from({ length: 5 }, (_, index) =>
        restarts.after({ at: from + index * SECOND, failed: true, wasReady: true }),
      )
    expect([fail(0), fail(600 * SECOND), fail(604_800 * SECOND)].map((pauses) => pauses.at(-1))).toEqual([
      30 * SECOND,
      60 * SECOND,
      30 * SECOND,
    ])
  })

  test('ten that never serve are too many, however slowly and by whomever they end', () => {
    const all = waits(20, (index) => ({ at: 60 * index * SECOND, failed: false, wasReady: false }))
    expect(all.flatMap((pause, index) => (pause > 0 ? [index] : []))).toEqual([9, 19])
  })
})
