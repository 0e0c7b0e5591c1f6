import { expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import type { CallRecord } from '../../../src/calls/record.ts'
import { map, memfd } from '../../../src/kernel/shared-memory.ts'
import { CountPlaces } from '../../../src/memories/count-places.ts'
import { CountWriter } from '../../../src/memories/count-writer.ts'
import {
  COUNTS_WORD,
  countsSize,
  ENDED_KINDS,
  ENDED_SIZE,
  endedCounts,
  formatCounts,
  isCounts,
} from '../../../src/memories/counts-layout.ts'
import { callCounts } from '../../../src/memories/read-counts.ts'

const record = (changes: Partial<CallRecord> = {}): CallRecord => ({
  ...{ container: 0, serial: 1, nr: 133, arch: 0xc000003e, tid: 7 as Tid, verdict: 'continue', errno: 0 },
  ...{ reason: 'deviceNotAllowed', a: 1, b: 1, microseconds: 3, time: 1 },
  ...changes,
})
const NOTHING = { registers: undefined, from: 0, texts: { bytes: new Uint8Array(), length: 0 } }

function world() {
  const fd = memfd('intercede-test', countsSize(2))
  const memory = map(fd)
  formatCounts(memory)
  const words = new Int32Array(memory)
  const ended = () => callCounts(new DataView(memory, endedCounts(words), ENDED_SIZE), 0, ENDED_KINDS)
  return { memory, words, ended, places: new CountPlaces(fd, memory), writer: new CountWriter(memory), fd }
}

test('what was counted of a container is not lost with its end: the sum over all containers never shrinks', () => {
  const { places, writer, ended, words } = world()
  for (let serial = 1; serial <= 3; serial++) {
    places.take({ index: serial % 2, serial })
    for (let count = 0; count < serial; count++) writer.count(record({ container: serial % 2, serial }), NOTHING)
    writer.count(record({ container: serial % 2, serial, verdict: 'act', reason: 'done' }), NOTHING)
    // 3 has the place of 1, which nobody has given back.
    if (serial !== 1) places.leave(serial % 2)
  }
  const [left, done] = ['continue', 'act'].map((name) => ended().find(({ verdict }) => verdict === name))
  expect(left).toMatchObject({ nr: 133, reason: 'deviceNotAllowed', calls: 6, microseconds: 18 })
  expect(left!.buckets[0]).toBe(6)
  expect(done).toMatchObject({ calls: 3 })
  expect(words[COUNTS_WORD.version]! & 1).toBe(0)
})

test('calls of more kinds than there is room for count by their verdict', () => {
  const { places, writer, ended } = world()
  const kinds = ENDED_KINDS + 526
  for (let first = 0; first < kinds; first += 50) {
    places.take({ index: 0, serial: 1 + first })
    for (let nr = first; nr < first + 50; nr++) writer.count(record({ serial: 1 + first, nr }), NOTHING)
    places.leave(0)
  }
  expect(ended().reduce((sum, { calls }) => sum + calls, 0)).toBe(kinds)
  expect(ended().find(({ nr }) => nr === -1)).toMatchObject({ verdict: 'continue', calls: kinds - (ENDED_KINDS - 4) })
})

test('a keeper that ended in the middle of a move leaves readers waiting no longer than until the next', () => {
  const { words, fd, memory } = world()
  words[COUNTS_WORD.version] = 7
  new CountPlaces(fd, memory)
  expect(words[COUNTS_WORD.version]).toBe(6)
})

test('counts of a version with other reasons are not taken for ours', () => {
  const { memory, words } = world()
  expect(isCounts(memory)).toBe(true)
  words[COUNTS_WORD.codes]!++
  expect(isCounts(memory)).toBe(false)
})
