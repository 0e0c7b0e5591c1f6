import { expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import type { CallRecord } from '../../../src/calls/record.ts'
import { map, memfd } from '../../../src/kernel/shared-memory.ts'
import { CountPlaces } from '../../../src/memories/count-places.ts'
import { CountWriter } from '../../../src/memories/count-writer.ts'
import {
  BOUNDS,
  callKey,
  countsPlace,
  countsSize,
  decodeCallKey,
  formatCounts,
  HEAD_SIZE,
  HEAD_WORD,
  isCounts,
  KIND_WORD,
  REFUSAL_WORD,
  REFUSALS_AT,
} from '../../../src/memories/counts-layout.ts'
import { type ContainerCounts, readCounts } from '../../../src/memories/read-counts.ts'

const SERIAL = 77
const CONTAINER = 2

const record = (changes: Partial<CallRecord> = {}): CallRecord => ({
  ...{ container: CONTAINER, serial: SERIAL, nr: 133, arch: 0xc000003e, tid: 7 as Tid, verdict: 'continue', errno: 0 },
  ...{ reason: 'deviceNotAllowed', a: 1, b: 1, microseconds: 3, time: 1 },
  ...changes,
})
const registers = Int32Array.from({ length: 12 }, (_, index) => (index % 2 === 0 ? index : 0))

function world() {
  const fd = memfd('intercede-test', countsSize(4))
  const memory = map(fd)
  formatCounts(memory)
  const places = new CountPlaces(fd, memory)
  places.take({ index: CONTAINER, serial: SERIAL })
  const writer = new CountWriter(memory)
  const count = (changes: Partial<CallRecord> = {}): void =>
    writer.count(record(changes), { registers, from: 0, texts: { bytes: Buffer.alloc(0), length: 0 } })
  return { memory, places, count, read: () => places.read(CONTAINER) }
}

test('calls are counted by call, verdict and reason, with a distribution of their times', () => {
  const { count, read } = world()
  count()
  count({ microseconds: 7 })
  count({ microseconds: 3e7 })
  count({ verdict: 'act', reason: 'done', microseconds: 150 })
  const { calls } = read()
  const left = calls.find(({ verdict }) => verdict === 'continue')!
  expect(left).toMatchObject({
    nr: 133,
    arch: 0xc000003e,
    reason: 'deviceNotAllowed',
    calls: 3,
    microseconds: 30000010,
  })
  expect(left.buckets).toEqual([1, 1, ...BOUNDS.slice(2).map(() => 0), 1])
  expect(calls.find(({ verdict }) => verdict === 'act')).toMatchObject({ calls: 1, microseconds: 150 })
})

test('the counts of a container are not those of the one that has its number later, and end with it', () => {
  const { places, count, read } = world()
  count()
  places.take({ index: CONTAINER, serial: SERIAL + 1 })
  expect(read()).toEqual({ serial: SERIAL + 1, inFlight: 0, stuck: 0, kept: 0, calls: [], refusals: [], dropped: 0 })
  count()
  expect(read().calls).toEqual([])
  count({ serial: SERIAL + 1 })
  expect(read().calls).toHaveLength(1)
  places.leave(CONTAINER)
  count({ serial: SERIAL + 1 })
  expect(read()).toEqual({ serial: 0, inFlight: 0, stuck: 0, kept: 0, calls: [], refusals: [], dropped: 0 })
})

test('the next keeper goes on with what was counted', () => {
  const { places, count, read } = world()
  count()
  places.take({ index: CONTAINER, serial: SERIAL })
  count()
  expect(read().calls).toMatchObject([{ calls: 2 }])
})

test('more kinds than there is room for are counted together, by verdict', () => {
  const { count, read } = world()
  for (let nr = 0; nr < 100; nr++) count({ nr, verdict: 'act', reason: 'done' })
  const { calls } = read()
  expect(calls.reduce((sum, each) => sum + each.calls, 0)).toBe(100)
  expect(calls).toHaveLength(61)
  expect(calls.find(({ nr }) => nr === -1)).toMatchObject({ verdict: 'act', calls: 40 })
})

test('a flood of one kind erases no other refusal, and each kind has its number and its last call', () => {
  const { count, read } = world()
  count({ a: 5, b: 1, time: 10 })
  count({ reason: 'lacksCapability', a: 27, b: 0, time: 11 })
  for (let time = 100; time < 5000; time++) count({ time })
  for (let time = 100; time < 5000; time++) count({ verdict: 'act', reason: 'done', time })
  const { refusals } = read()
  expect(refusals.map(({ count: number, record: { reason, a, time } }) => [reason, a, number, time]).sort()).toEqual([
    ['deviceNotAllowed', 1, 4900, 4999],
    ['deviceNotAllowed', 5, 1, 10],
    ['lacksCapability', 27, 1, 11],
  ])
  expect(refusals[0]!.args).toEqual([0n, 2n, 4n, 6n, 8n, 10n])
})

test('of too many kinds of refusals the oldest make room', () => {
  const { count, read } = world()
  for (let a = 0; a < 1000; a++) count({ a, time: a })
  const { refusals } = read()
  expect(refusals).toHaveLength(64)
  expect(refusals.some(({ record: { a } }) => a === 999)).toBe(true)
  expect(refusals.filter(({ record: { a } }) => a > 800).length).toBeGreaterThan(48)
})

/** Which refusals there are, as REASON a. */
const listed = ({ refusals }: ContainerCounts): readonly string[] =>
  refusals.map(({ record: { reason, a } }) => `${reason} ${a}`)

test.each([
  { when: 'before', other: -1 },
  { when: 'in the middle of', other: 250 },
  { when: 'after', other: 499 },
])('a refusal $when a flood of other arguments of one call and reason is still there', ({ other }) => {
  for (let a = 0; a < 64; a++) {
    const { count, read } = world()
    for (let flood = -1; flood < 500; flood++) {
      if (flood === other) count({ reason: 'lacksCapability', a, time: 10_000 + flood })
      else count({ nr: 430, a: flood, time: 10_000 + flood })
    }
    expect(listed(read())).toContain(`lacksCapability ${a}`)
  }
})

test('where a flood has all places, that of a few other calls makes room for no more than its own', () => {
  const { count, read } = world()
  count({ reason: 'lacksCapability', a: 27, time: 1 })
  for (let time = 2; time < 5000; time++) count({ nr: 100 + (time % 4), a: time, time })
  expect(listed(read())).toContain('lacksCapability 27')
})

test('kinds of refusals that made room are counted', () => {
  const { count, read } = world()
  for (let a = 0; a < 8; a++) count({ a, time: a })
  expect(read().dropped).toBe(0)
  for (let a = 0; a < 1000; a++) count({ a, time: 10 + a })
  expect(read().dropped).toBe(1000 - read().refusals.length)
})

test('a refusal that is being written is not read, and is dropped when its writer has died with its engine', () => {
  const { memory, places, count, read } = world()
  count()
  const words = new Int32Array(memory)
  const [at] = Array.from({ length: 64 }, (_, index) => (countsPlace(CONTAINER) + REFUSALS_AT) / 4 + index * 80).filter(
    (each) => words[each + REFUSAL_WORD.key] !== 0,
  )
  words[at! + REFUSAL_WORD.writer] = 1
  words[at! + REFUSAL_WORD.version]!++
  expect(read().refusals).toEqual([])
  count()
  expect(read().refusals).toEqual([])
  places.free()
  count()
  expect(read().refusals).toMatchObject([{ count: 1 }])
  // Its writer was killed at the container's first refusal, before it was counted.
  words[at! + REFUSAL_WORD.writer] = 1
  words[at! + REFUSAL_WORD.key] = 0
  words[at! + REFUSAL_WORD.version]!++
  words[countsPlace(CONTAINER) / 4 + HEAD_WORD.refusals] = 0
  places.free()
  count()
  expect(read().refusals).toMatchObject([{ count: 1 }])
})

test('the last refusal alone is read for a list', () => {
  const { memory, count } = world()
  const last = (): unknown =>
    readCounts((at, length) => new DataView(memory, countsPlace(CONTAINER) + at, length), 'last').refusals
  expect(last()).toEqual([])
  count({ a: 1, time: 1 })
  count({ a: 2, time: 2 })
  count({ verdict: 'act', reason: 'done', time: 3 })
  expect(last()).toMatchObject([{ record: { a: 2, time: 2 } }])
  count({ a: 1, time: 4 })
  expect(last()).toMatchObject([{ count: 2, record: { a: 1, time: 4 } }])
})

test('a refusal that changes between two copies is left out', () => {
  const { memory, count } = world()
  count()
  const place = countsPlace(CONTAINER)
  const copy = (at: number, length: number): DataView => new DataView(memory.slice(place + at, place + at + length))
  expect(readCounts(copy).refusals).toHaveLength(1)
  const slow = (at: number, length: number): DataView => {
    const view = copy(at, length)
    count()
    return view
  }
  expect(readCounts(slow).refusals).toEqual([])
})

test('counts go on beyond 32 bits', () => {
  const { memory, count, read } = world()
  count({ microseconds: 3e9 })
  const words = new Int32Array(memory)
  const first = (countsPlace(CONTAINER) + HEAD_SIZE) / 4
  const counter = Array.from({ length: 64 }, (_, index) => first + index * 64).find((at) => words[at] !== 0)!
  words[counter + KIND_WORD.buckets] = -1
  count()
  expect(read().calls[0]).toMatchObject({ calls: 2 ** 32 + 1, microseconds: 3e9 + 3 })
})

test.each([
  { nr: -1, arch: 0xc000003e },
  { nr: 4095, arch: 0xc000003e },
  { nr: 0x40000000, arch: 1234 },
])('a call $nr of architecture $arch that nobody knows has a kind too', ({ nr, arch }) => {
  expect(decodeCallKey(callKey(record({ nr, arch })))).toMatchObject({ nr: -1, verdict: 'continue' })
})

test('memory of another layout is not taken for counts', () => {
  const { memory } = world()
  expect(isCounts(memory)).toBe(true)
  new Int32Array(memory)[0]!++
  expect(isCounts(memory)).toBe(false)
  expect(isCounts(new ArrayBuffer(8))).toBe(false)
})
