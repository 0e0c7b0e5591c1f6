import { expect, test } from 'vitest'
import { importCalls, JOURNAL_SIZE, SLOT, Slots, STATE, writeMagic } from '../../../../src/link/journal.ts'

/** Where a journal says how it looks, in 32-bit words: for ever. */
const SHAPE = 48

/** A journal of slots of 256 bytes from 512 on, with a call at each of `states`. */
function foreign(states: readonly number[]): ArrayBuffer {
  const memory = new ArrayBuffer(512 + 256 * 16)
  new Int32Array(memory).set([512, 256, 16, 200, 212, 208], SHAPE)
  const view = new DataView(memory)
  for (const [index, state] of states.entries()) {
    const at = 512 + 256 * index
    view.setBigUint64(at, 1000n + BigInt(index), true)
    view.setUint32(at + 200, state, true)
    view.setUint32(at + 212, 7, true)
    view.setUint32(at + 208, 9, true)
  }
  return memory
}

function ours(): Slots {
  const memory = new ArrayBuffer(JOURNAL_SIZE)
  writeMagic(memory)
  return new Slots(memory)
}

test('calls that were not begun are in the same state, those that were begun are given up', () => {
  const slots = ours()
  const LATER = 77
  const states = [STATE.received, STATE.free, STATE.receiving, STATE.acting, STATE.acted, LATER]
  expect(importCalls(foreign(states), slots)).toBe(5)
  const taken = slots.all().filter((slot) => slots.state(slot) !== STATE.free)
  const { view } = slots
  const word = (slot: number, field: keyof typeof SLOT): number => view.getUint32(slot + SLOT[field], true)
  expect(taken.map((slot) => [Number(view.getBigUint64(slot, true)), slots.state(slot)])).toEqual([
    [1000, STATE.received],
    [1002, STATE.receiving],
    [1003, STATE.acting],
    [1004, STATE.acting],
    [1005, STATE.acting],
  ])
  expect(taken.map((slot) => word(slot, 'attempts') > 2)).toEqual([false, false, true, true, true])
  for (const slot of taken) expect([word(slot, 'listener'), word(slot, 'container')]).toEqual([7, 9])
})

test('our own journal can be taken so', () => {
  const memory = new ArrayBuffer(JOURNAL_SIZE)
  writeMagic(memory)
  const before = new Slots(memory)
  const slot = before.take({ listener: 3, container: 4, thread: 5 })
  before.receive(slot)
  expect(importCalls(memory, ours())).toBe(1)
})

test.each([
  { what: 'says nothing', shape: [0, 0, 0, 0, 0, 0] },
  { what: 'has slots beyond its end', shape: [512, 256, 17, 200, 212, 208] },
  { what: 'has slots that are too small', shape: [512, 64, 16, 40, 44, 48] },
  { what: 'has fields beyond a slot', shape: [512, 256, 16, 256, 212, 208] },
])('a journal that $what is not read', ({ shape }) => {
  const memory = foreign([STATE.received])
  new Int32Array(memory).set(shape, SHAPE)
  expect(importCalls(memory, ours())).toBeUndefined()
})
