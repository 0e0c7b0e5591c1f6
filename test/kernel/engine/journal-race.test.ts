import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { type CallRecord, decodeRecord, RECORD_SIZE, registersOf, textsIn } from '../../../src/calls/record.ts'
import { map, memfd, readOnly } from '../../../src/kernel/shared-memory.ts'
import { formatRecords, RECORDS_HEADER, RecordReader, recordsSize } from '../../../src/memories/records.ts'
import { MemoryFile } from '../../../src/reader/directory-reader.ts'
import { type FollowedRecord, RecordsFollower } from '../../../src/reader/records-follower.ts'

const RECORDS = 1024
const WRITERS = 3
const EACH = Number(process.env.INTERCEDE_RECORDS ?? 500_000)
const dist = (path: string): string => new URL(`../../../out/${path}`, import.meta.url).href

/** Writes records all of whose numbers are the same, as fast as it can. */
const WRITE = `
  import { parentPort, workerData } from 'node:worker_threads'
  import { RecordWriter } from '${dist('memories/records.js')}'
  import { Fd } from '${dist('kernel/fd.js')}'
  import { map } from '${dist('kernel/shared-memory.js')}'
  const { fd, first } = workerData
  const writer = new RecordWriter(map(new Fd(fd)), () => {})
  const registers = new Int32Array(12)
  for (let number = first; number < first + ${EACH}; number++) {
    const comm = Buffer.from(String(number))
    const text = Buffer.from('\\0\\x08' + String(number).padStart(8, '0'), 'latin1')
    writer.write({
      ...{ container: number, serial: number, nr: number, arch: number, tid: number, a: number, b: number, time: number },
      ...{ verdict: 'act', errno: number & 0xffff, reason: 'done', microseconds: Math.fround(number) },
    }, { registers: registers.fill(number), from: 0, texts: { bytes: text, length: text.length },
      caller: { isKnown: true, pid: number, comm, length: comm.length } })
  }
  parentPort.postMessage('over')
`

function startWriter(fd: number, index: number): Promise<void> {
  const url = new URL(`data:text/javascript,${encodeURIComponent(WRITE)}`)
  const worker = new Worker(url, { workerData: { fd, first: 1 + index * EACH } })
  return new Promise((over, failed) => {
    worker.on('message', () => over())
    worker.on('error', failed)
  })
}

const isWhole = ({ container, serial, nr, arch, tid, a, b, time, errno, microseconds, pid, comm }: CallRecord) =>
  comm === String(container) &&
  [serial, nr, arch, tid, a, b, time, pid].every((number) => number === container) &&
  errno === (container & 0xffff) &&
  microseconds === Math.fround(container)

test('writers that overtake the reader and each other all the time leave no torn record', {
  timeout: 60_000 + EACH / 2,
}, async () => {
  const ring = memfd('intercede-race', recordsSize(RECORDS))
  const reader = new RecordReader(map(ring))
  let left = WRITERS
  const writers = Array.from({ length: WRITERS }, (_, index) => startWriter(ring.raw, index).finally(() => left--))
  let [seen, torn] = [0, 0]
  const take = (record: CallRecord): void => {
    seen++
    if (!isWhole(record)) torn++
  }
  while (left > 0) {
    for (let round = 0; round < 200; round++) reader.drain(take)
    await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(writers)
  reader.drain(take)
  ring[Symbol.dispose]()
  expect({ seen, torn }).toEqual({ seen, torn: 0 })
  expect(seen).toBeGreaterThan(RECORDS)
  expect(reader.lost).toBeGreaterThan(RECORDS)
  expect(seen + reader.lost).toBeLessThanOrEqual(WRITERS * EACH)
})

/** A record whose registers and text are those of its numbers. */
function isWholeCall({ record, args, texts }: FollowedRecord): boolean {
  const { container } = record
  const register = BigInt(container) * 0x1_0000_0001n
  const text = Buffer.from(texts).toString('latin1', 2)
  return isWhole(record) && args!.every((each) => each === register) && Number(text) === container
}

/** What a reader finds that believes whatever it has copied, as the first one did: so many records are torn. */
function tornInCopy(memory: MemoryFile): number {
  const copy = memory.copy(RECORDS_HEADER, RECORDS * RECORD_SIZE)
  let torn = 0
  for (let at = 0; at < copy.byteLength; at += RECORD_SIZE) {
    if (copy.getInt32(at, true) === 0) continue
    const [args, texts] = [registersOf(copy, at), textsIn(copy, at)]
    if (!args || !isWholeCall({ sequence: 0, record: decodeRecord(copy, at), args, texts })) torn++
  }
  return torn
}

test('a reader of another process that is overtaken all the time sees no torn record, and counts what it misses', {
  timeout: 60_000 + EACH / 2,
}, async () => {
  const ring = memfd('intercede-race', recordsSize(RECORDS))
  formatRecords(map(ring))
  const memory = new MemoryFile(readOnly(ring))
  const follower = new RecordsFollower(memory)
  let left = WRITERS
  const writers = Array.from({ length: WRITERS }, (_, index) => startWriter(ring.raw, index).finally(() => left--))
  let [seen, torn, control] = [0, 0, 0]
  const read = (): void => {
    for (const each of follower.read()) {
      seen++
      if (!isWholeCall(each)) torn++
    }
  }
  while (left > 0) {
    for (let round = 0; round < 50; round++) read()
    control += tornInCopy(memory)
    await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(writers)
  for (let before = -1; before !== follower.next; ) {
    before = follower.next
    read()
  }
  const { begun } = follower
  ring[Symbol.dispose]()
  expect({ seen, torn }).toEqual({ seen, torn: 0 })
  expect(seen).toBeGreaterThan(RECORDS)
  expect(follower.lost).toBeGreaterThan(RECORDS)
  expect(seen + follower.lost).toBe(begun)
  console.log(`${begun} records, ${seen} seen, none torn; ${control} torn for a reader without the checks`)
  expect(control).toBeGreaterThan(0)
})
