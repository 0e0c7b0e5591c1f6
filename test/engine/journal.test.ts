import { expect, test } from 'vitest'
import type { Tid } from '../../src/abi/brand.ts'
import type { CallRecord } from '../../src/calls/record.ts'
import { SLOTS, STATE } from '../../src/calls/slot.ts'
import { journalSize, moveJournal, RecordReader, RecordWriter, Slots } from '../../src/engine/journal.ts'

const record = (container: number): CallRecord => ({
  container,
  nr: 133,
  arch: 0xc000003e,
  tid: 7 as Tid,
  verdict: 'act',
  errno: 0,
  reason: 'done',
  a: 0,
  b: 0,
  microseconds: 1,
  time: 2,
})

const RECORDS = 1024
const ORIGIN = { listener: 5, container: 6, thread: 7 }

function ring() {
  const memory = new ArrayBuffer(journalSize(RECORDS))
  let halfFull = 0
  const writer = new RecordWriter(memory, () => halfFull++)
  const reader = new RecordReader(memory)
  const drain = (isOver = false): number[] => {
    const seen: number[] = []
    reader.drain(({ container }) => seen.push(container), isOver)
    return seen
  }
  const write = (from: number, count: number): void => {
    for (let index = from; index < from + count; index++) writer.write(record(index))
  }
  return { memory, reader, drain, write, halfFull: () => halfFull }
}

test('records come out once, in order', () => {
  const { write, drain } = ring()
  write(0, 3)
  expect(drain()).toEqual([0, 1, 2])
  write(3, 2)
  expect(drain()).toEqual([3, 4])
  expect(drain()).toEqual([])
})

test('the writer calls the reader once when the ring is half full', () => {
  const { write, drain, halfFull } = ring()
  write(0, RECORDS / 2)
  expect(halfFull()).toBe(0)
  write(0, 10)
  expect(halfFull()).toBe(1)
  drain()
  write(0, RECORDS / 2 + 1)
  expect(halfFull()).toBe(2)
})

test('what a slow reader misses is counted, and the rest is whole', () => {
  const { write, drain, reader } = ring()
  write(0, RECORDS + 5)
  const seen = drain()
  expect(reader.lost).toBe(5)
  expect(seen).toHaveLength(RECORDS)
  expect(seen[0]).toBe(5)
  expect(seen.at(-1)).toBe(RECORDS + 4)
})

test('a record that was begun and not finished holds the reader up only until half the ring lies behind it', () => {
  const { memory, write, drain, reader } = ring()
  write(0, 1)
  Atomics.add(new Int32Array(memory), 0, 1) // a writer that died after it took its place
  write(2, 1)
  expect(drain()).toEqual([0])
  write(3, RECORDS / 2)
  const seen = drain()
  expect(seen[0]).toBe(2)
  expect(reader.lost).toBe(1)
})

test('a record that an engine had begun when it ended is not lost: the next one writes one of that call', () => {
  const { memory, write, drain, reader } = ring()
  write(0, 1)
  Atomics.add(new Int32Array(memory), 0, 1)
  write(2, 1)
  expect(drain(true)).toEqual([0, 2])
  expect(reader.lost).toBe(0)
})

test('slots are taken zeroed, and none when all are in use', () => {
  const memory = new ArrayBuffer(journalSize(RECORDS))
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

test.each([
  ['a larger', 4 * RECORDS, 0],
  ['a smaller', RECORDS / 4, RECORDS / 2 - RECORDS / 4],
])(
  'all that is unread goes into a journal with %s ring, as far as there is room, and so do the calls in flight',
  (_, size, lost) => {
    const { memory, write, drain } = ring()
    write(0, RECORDS - 100)
    drain()
    write(RECORDS, RECORDS / 2)
    const before = new Slots(memory)
    const at = before.take(ORIGIN)
    before.notification(at).fill(7)
    before.receive(at)
    const moved = new ArrayBuffer(journalSize(size))
    moveJournal(memory, moved)
    const reader = new RecordReader(moved)
    const seen: number[] = []
    reader.drain(({ container }) => seen.push(container))
    expect({ lost: reader.lost, first: seen[0], last: seen.at(-1), count: seen.length }).toEqual({
      lost,
      first: RECORDS + lost,
      last: RECORDS + RECORDS / 2 - 1,
      count: RECORDS / 2 - lost,
    })
    const after = new Slots(moved)
    expect(after.state(at)).toBe(STATE.received)
    expect(after.notification(at)).toEqual(before.notification(at))
    new RecordWriter(moved, () => {}).write(record(5))
    reader.drain(({ container }) => seen.push(container))
    expect(seen.at(-1)).toBe(5)
  },
)
