import { expect, test } from 'vitest'
import { MadeFileSystems } from '../../../../src/engine/kept/persistent-state.ts'
import { CONTAINERS } from '../../../../src/link/limits.ts'
import { MADE_PER_CONTAINER, MADE_WORDS } from '../../../../src/link/persistent-layout.ts'

const FROM = 3
const store = (): MadeFileSystems => new MadeFileSystems(new Int32Array(FROM + CONTAINERS * MADE_WORDS), FROM)
const ID = 0xfedc_ba98_7654_3210n

test('a file system is known to the container that it was made for, and to no other', () => {
  const made = store()
  made.add(3, ID)
  expect([2, 3, 4].map((container) => made.has(container, ID))).toEqual([false, true, false])
  for (const other of [ID & 0xffff_ffffn, ID >> 32n, ID ^ 1n, ID ^ (1n << 63n)]) expect(made.has(3, other)).toBe(false)
})

test('one without an id is not known: before Linux 5.13 none has one', () => {
  const made = store()
  made.add(3, 0n)
  expect(made.has(3, 0n)).toBe(false)
  made.add(3, ID)
  expect(made.has(3, 0n)).toBe(false)
})

test('of many, the newest are known', () => {
  const made = store()
  for (let id = 1n; id <= BigInt(MADE_PER_CONTAINER) + 2n; id++) made.add(1023, id)
  expect([1n, 2n, 3n, BigInt(MADE_PER_CONTAINER) + 2n].map((id) => made.has(1023, id))).toEqual([
    false,
    false,
    true,
    true,
  ])
})

test('all are forgotten with the container, and with no other', () => {
  const made = store()
  for (const container of [3, 4, 5]) made.add(container, ID)
  made.forget(4)
  expect([3, 4, 5].map((container) => made.has(container, ID))).toEqual([true, false, true])
})
