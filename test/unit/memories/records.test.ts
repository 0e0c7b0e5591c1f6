import { expect, test, vi } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import { type CallRecord, callerOf, decodeRecord, registersOf, textsIn } from '../../../src/calls/record.ts'
import {
  formatRecords,
  freePlaces,
  isRecords,
  moveRecords,
  RecordReader,
  RecordWriter,
  recordsBegun,
  recordsSize,
  ringId,
} from '../../../src/memories/records.ts'

const record = (container: number): CallRecord => ({
  container,
  serial: container + 1,
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

function makeRing(records: number): ArrayBuffer {
  const memory = new ArrayBuffer(recordsSize(records))
  formatRecords(memory)
  return memory
}

function ring() {
  const memory = makeRing(RECORDS)
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

test('a record at which its reader fails is not the first of the next reader', () => {
  const { memory, write, reader } = ring()
  write(0, 3)
  const fails = (): never => {
    throw new Error('of a test')
  }
  expect(() => reader.drain(fails)).toThrow('of a test')
  const seen: number[] = []
  new RecordReader(memory).drain(({ container }) => seen.push(container))
  expect(seen).toEqual([1, 2])
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

test.each([
  ['a larger', 4 * RECORDS, 0],
  ['a smaller', RECORDS / 4, RECORDS / 2 - RECORDS / 4],
])('all that is unread goes into %s ring, as far as there is room, and numbers go on', (_, size, lost) => {
  const { memory, write, drain } = ring()
  write(0, RECORDS - 100)
  drain()
  write(RECORDS, RECORDS / 2)
  const moved = makeRing(size)
  moveRecords(memory, moved)
  const reader = new RecordReader(moved)
  const seen: number[] = []
  reader.drain(({ container }) => seen.push(container))
  expect({ lost: reader.lost, first: seen[0], last: seen.at(-1), count: seen.length }).toEqual({
    lost,
    first: RECORDS + lost,
    last: RECORDS + RECORDS / 2 - 1,
    count: RECORDS / 2 - lost,
  })
  expect(ringId(new Int32Array(moved))).toBe(ringId(new Int32Array(memory)))
  expect(recordsBegun(new Int32Array(moved))).toBe(recordsBegun(new Int32Array(memory)))
  new RecordWriter(moved, () => {}).write(record(5))
  reader.drain(({ container }) => seen.push(container))
  expect(seen.at(-1)).toBe(5)
})

/** A record all of whose numbers are the same, so that one of two records shows; something happens when the writer is at `field`. */
function uniform(number: number, happens: Partial<Record<keyof CallRecord, () => void>> = {}): CallRecord {
  const of = { ...record(number), nr: number, arch: number, tid: number as Tid, a: number, b: number }
  const fields = Object.entries(happens).map(([field, action]) => {
    const value = of[field as keyof CallRecord]
    const get = (): unknown => {
      action()
      return value
    }
    return [field, { get, enumerable: true }] as const
  })
  return Object.defineProperties(of, Object.fromEntries(fields))
}

const isWhole = ({ container, nr, arch, tid, a, b }: CallRecord): boolean =>
  [nr, arch, tid, a, b].every((number) => number === container)

/** Runs `action` before the atomic step of this number that is taken from now on. */
function atStep(wanted: number, action: () => void): Disposable {
  const load = Atomics.load
  let steps = 0
  const spy = vi.spyOn(Atomics, 'load').mockImplementation(((words: Int32Array, index: number) => {
    if (steps++ === wanted) action()
    return load(words, index)
  }) as typeof Atomics.load)
  return { [Symbol.dispose]: () => spy.mockRestore() }
}

class Died extends Error {}
const dies = (): never => {
  throw new Died()
}

/** Everything up to `field` is written, the rest is not, as long as anybody looks. */
function begin(writer: RecordWriter, number: number, field: keyof CallRecord): void {
  try {
    writer.write(uniform(number, { [field]: dies }))
  } catch (error) {
    if (!(error instanceof Died)) throw error
  }
}

test('a reader that is overtaken at any step gives whole records only, and counts the others', () => {
  for (let step = 0; step < 64; step++) {
    const memory = makeRing(RECORDS)
    const writer = new RecordWriter(memory, () => {})
    const reader = new RecordReader(memory)
    for (let number = 1; number <= RECORDS; number++) writer.write(uniform(number))
    const seen: CallRecord[] = []
    {
      using _ = atStep(step, () => begin(writer, RECORDS + 1, 'a'))
      reader.drain((each) => seen.push(each))
    }
    expect(seen.filter((each) => !isWhole(each))).toEqual([])
    expect(seen.length + reader.lost).toBe(RECORDS)
  }
})

test.each(['container', 'nr', 'tid', 'b'] as const)(
  'a writer that is overtaken at %s spoils no record of the one that overtakes it, and is counted',
  (field) => {
    const { memory, reader } = ring()
    const writer = new RecordWriter(memory, () => {})
    const seen: CallRecord[] = []
    const overtaken = uniform(1, {
      [field]() {
        for (let number = 2; number <= 2 * RECORDS; number++) writer.write(uniform(number))
      },
      microseconds: () => reader.drain((each) => seen.push(each)),
    })
    writer.write(overtaken)
    reader.drain((each) => seen.push(each))
    expect(seen.filter((each) => !isWhole(each))).toEqual([])
    writer.write(uniform(2 * RECORDS + 1))
    reader.drain((each) => seen.push(each))
    expect(seen.at(-1)?.container).toBe(2 * RECORDS + 1)
    expect(seen.length + reader.lost).toBe(2 * RECORDS + 1)
  },
)

test('a writer that was overtaken before it began leaves the place to the one that has it', () => {
  const { memory, reader } = ring()
  const writer = new RecordWriter(memory, () => {})
  const seen: CallRecord[] = []
  const exchange = Atomics.compareExchange
  const spy = vi.spyOn(Atomics, 'compareExchange').mockImplementationOnce(((
    words: Int32Array,
    ...rest: [number, number, number]
  ) => {
    for (let number = 2; number <= RECORDS + 1; number++) writer.write(uniform(number))
    return exchange(words, ...rest)
  }) as typeof Atomics.compareExchange)
  writer.write(uniform(1))
  expect(spy).toHaveBeenCalled()
  spy.mockRestore()
  reader.drain((each) => seen.push(each))
  expect(seen.map(({ container }) => container)).toEqual(Array.from({ length: RECORDS }, (_, index) => index + 2))
  expect(reader.lost).toBe(1)
})

test.each([
  { how: 'when its engine has ended', over: (_: ArrayBuffer, reader: RecordReader) => reader.drain(() => {}, true) },
  { how: 'when its keeper is replaced', over: (memory: ArrayBuffer) => freePlaces(memory) },
])('the place of a writer that died in it is free again $how', ({ over }) => {
  const { memory, reader, drain, write } = ring()
  begin(new RecordWriter(memory, () => {}), 1, 'a')
  over(memory, reader)
  write(1, RECORDS)
  expect(drain()).toHaveLength(RECORDS)
  write(1, 1)
  expect(drain()).toEqual([1])
})

test.each([
  ['half a turn', 2 ** 31],
  ['a turn', 2 ** 32],
  ['a turn and a half', 3 * 2 ** 31],
  ['two turns', 2 ** 33],
])('sequence numbers go on beyond %s of the 32 bits of their word', (_, border) => {
  const { memory, write, drain } = ring()
  const words = new Int32Array(memory)
  const start = border - 5
  words[0] = start | 0
  words[16] = start | 0
  words[32] = 1 + Math.floor(start / 2 ** 31)
  for (let number = 0; number < 10; number++) {
    expect(recordsBegun(words)).toBe(start + number)
    write(number, 1)
  }
  expect(drain()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
})

test('a writer that dies before it has counted half a turn spoils no later number', () => {
  const words = new Int32Array(makeRing(RECORDS))
  const writer = new RecordWriter(words.buffer as ArrayBuffer, () => {})
  writer.write(record(1))
  words[0] = (2 ** 31 + 1) | 0 // drawn, and not counted
  expect(recordsBegun(words)).toBe(2 ** 31 + 1)
  words[0] = -1
  expect(recordsBegun(words)).toBe(2 ** 32 - 1)
  writer.write(record(1))
  writer.write(record(1))
  expect(recordsBegun(words)).toBe(2 ** 32 + 1)
})

test('a record holds the registers of its call, texts and caller, and nothing of the call that had its place before', () => {
  const memory = makeRing(RECORDS)
  const view = new DataView(memory)
  const writer = new RecordWriter(memory, () => {})
  const registers = Int32Array.from({ length: 20 }, (_, index) => 1000 + index)
  const caller = { isKnown: true, pid: 12, comm: Buffer.from('a\n\xff', 'latin1'), length: 3 }
  writer.write(record(1), { registers, from: 6, texts: { bytes: Buffer.from('\0\x03abc'), length: 5 }, caller })
  expect(decodeRecord(view, 4096)).toMatchObject({ pid: 12, comm: 'a\n\xff' })
  expect(callerOf(decodeRecord(view, 4096))).toEqual({ pid: 12, comm: 'a\\012\\377' })
  expect([...new Int32Array(memory, 4096 + 80, 12)]).toEqual([...registers.subarray(6, 18)])
  expect(registersOf(view, 4096)![0]).toBe(1006n + (1007n << 32n))
  expect(Buffer.from(textsIn(view, 4096)).toString()).toBe('\0\x03abc')
  for (let count = 0; count < RECORDS; count++) writer.write(record(2))
  expect([registersOf(view, 4096), textsIn(view, 4096).length]).toEqual([undefined, 0])
  expect(callerOf(decodeRecord(view, 4096))).toEqual({})
})

test.each([
  ['a memory without a layout', (words: Int32Array) => words.fill(0, 48, 52)],
  ['a ring of another layout', (words: Int32Array) => words[48]!++],
  ['a ring with records of another size', (words: Int32Array) => words[49]!--],
  ['a ring whose records mean other reasons', (words: Int32Array) => words[54]!--],
  ['a ring of another length', (words: Int32Array) => words[50]!++],
])('%s is not taken for a ring of ours, and what is unread in it can be counted', (_, change) => {
  const { memory, write } = ring()
  expect(isRecords(memory)).toBe(true)
  write(0, 7)
  const words = new Int32Array(memory)
  change(words)
  expect(isRecords(memory)).toBe(false)
})
