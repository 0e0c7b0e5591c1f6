import { expect, test } from 'vitest'
import { FairShare } from '../../../../src/engine/thread/fair-share.ts'

const table = (): FairShare => new FairShare(new Int32Array(new SharedArrayBuffer(8)), 1)

test('calls that cost what most do are never dear, however many there are', () => {
  const share = table()
  for (let call = 0; call < 100_000; call++) share.charge(0, 1, 5000)
  expect(share.isDear(0, 5000)).toBe(false)
})

test('what is beyond a fifth of a second at once is dear, and cheap calls do not hide it', () => {
  const share = table()
  for (let call = 0; call < 20; call++) {
    share.charge(0, 11, 5000)
    for (let cheap = 0; cheap < 1000; cheap++) share.charge(0, 0.2, 5000)
  }
  expect(share.isDear(0, 5000)).toBe(false)
  share.charge(0, 11, 5000)
  expect(share.isDear(0, 5000)).toBe(true)
})

test('a tenth of a processor is not dear for ever, a little more is', () => {
  const [fair, unfair] = [table(), table()]
  for (let ms = 5000; ms < 60_000; ms += 100) {
    fair.charge(0, 10, ms)
    unfair.charge(0, 13, ms)
  }
  expect(fair.isDear(0, 60_000)).toBe(false)
  expect(unfair.isDear(0, 60_000)).toBe(true)
})

test('time pays, and it takes three seconds at most', () => {
  const share = table()
  share.charge(0, 351, 5000)
  expect([5000, 6499, 6500].map((ms) => share.isDear(0, ms))).toEqual([true, true, false])
  for (let call = 0; call < 10; call++) share.charge(0, 100_000, 7000)
  expect([7000, 9999, 10_000].map((ms) => share.isDear(0, ms))).toEqual([true, true, false])
})

test('each container has a FairShare of its own, and a new container none of the one before', () => {
  const share = table()
  share.charge(0, 1000, 5000)
  expect([0, 1].map((at) => share.isDear(at, 5000))).toEqual([true, false])
  share.forget(0)
  expect(share.isDear(0, 5000)).toBe(false)
})

test('a clock that comes round costs nothing', () => {
  const share = table()
  share.charge(0, 1000, 5000)
  const half = 2 ** 31
  for (const later of [half / 2, half, half + 5000, 1.5 * half, 2 * half - 7000]) {
    expect(share.isDear(0, 5000 + later)).toBe(false)
    share.charge(1, 1000, later)
    expect(share.isDear(1, later)).toBe(true)
  }
})
