import { expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import type { CallRecord } from '../../../src/calls/record.ts'
import { map, memfd, readOnly } from '../../../src/kernel/shared-memory.ts'
import { CountPlaces } from '../../../src/memories/count-places.ts'
import { CountWriter } from '../../../src/memories/count-writer.ts'
import { countsSize, formatCounts, setInFlight } from '../../../src/memories/counts-layout.ts'
import { DIRECTORY_SIZE, DirectoryWriter, formatDirectory } from '../../../src/memories/directory.ts'
import { formatRecords, recordsSize } from '../../../src/memories/records.ts'
import { MemoryFile } from '../../../src/reader/directory-reader.ts'
import { FeedReader } from '../../../src/reader/feed.ts'
import { metricsText } from '../../../src/reader/metrics.ts'

const PLACES = 1024
const NOTHING = { registers: undefined, from: 0, texts: { bytes: new Uint8Array(), length: 0 } }
const record = (changes: Partial<CallRecord>): CallRecord => ({
  ...{ container: 0, serial: 1, nr: 133, arch: 0xc000003e, tid: 7 as Tid, verdict: 'act', errno: 0 },
  ...{ reason: 'done', a: 0, b: 0, microseconds: 40, time: 1 },
  ...changes,
})
/** The numbers of calls that handlers serve, on x86_64. */
const CALLS = [133, 259, 165, 321, 144, 188, 189, 190, 99, 430]

/** The memories of a daemon, and a reader of them. */
function world() {
  const fds = [memfd('records', recordsSize(16)), memfd('counts', countsSize(PLACES)), memfd('dir', DIRECTORY_SIZE)]
  const [records, counts, directory] = fds.map(map) as [ArrayBuffer, ArrayBuffer, ArrayBuffer]
  formatRecords(records)
  formatCounts(counts)
  formatDirectory(directory)
  const places = new CountPlaces(fds[1]!, counts)
  const writer = new DirectoryWriter(directory)
  const counter = new CountWriter(counts)
  const admit = (index: number, id: string, name?: string): void => {
    const serial = index + 1
    places.take({ index, serial })
    writer.container(index, {
      id,
      index,
      serial,
      runtime: 'crun',
      listeners: 1,
      keys: { words: 'x'.repeat(1500) },
      ...(name === undefined ? {} : { name }),
    })
    for (const [position, nr] of CALLS.entries())
      for (const verdict of ['act', 'continue'] as const)
        counter.count(record({ container: index, serial, nr, verdict, microseconds: 3 ** position }), NOTHING)
  }
  const feed = new FeedReader(fds.map((fd) => new MemoryFile(readOnly(fd))))
  const inFlight = (container: number, calls: number): void => setInFlight(counts, container, calls)
  return { admit, feed, writer, inFlight, end: () => feed[Symbol.dispose]() }
}
const seriesOf = (text: string, name: string): readonly string[] =>
  text.split('\n').filter((line) => line.startsWith(`${name}{`))

test('of 1,000 containers they are less than a megabyte, and every call is in them', () => {
  const { admit, feed, end } = world()
  for (let index = 0; index < 1000; index++) admit(index, `container-${index}`)
  metricsText(feed)
  const before = process.cpuUsage()
  const text = metricsText(feed)
  const { user, system } = process.cpuUsage(before)
  console.log('1,000 containers:', text.length, 'bytes in', (user + system) / 1000, 'ms of processor time')
  expect(text.length).toBeLessThan(1024 * 1024)
  const calls = seriesOf(text, 'intercede_calls_total')
  expect(calls).toHaveLength(2 * CALLS.length)
  for (const line of calls) expect(line).toMatch(/ 1000$/)
  expect(text).toContain('intercede_containers{runtime="crun"} 1000\n')
  expect(text).not.toContain('container-')
  end()
})

test('containers are named only if that is asked for, up to a number of series; all others are one', () => {
  const { admit, feed, writer, end } = world()
  writer.daemon({ containerLabel: true })
  for (let index = 0; index < 100; index++) admit(index, `container-${index}`)
  const text = metricsText(feed, 3, 50 * 2 * CALLS.length)
  const calls = seriesOf(text, 'intercede_calls_total')
  const named = calls.filter((line) => line.includes('container="container-'))
  expect(named).toHaveLength(50 * 2 * CALLS.length)
  const others = calls.filter((line) => line.includes('container="other"'))
  expect(others).toHaveLength(2 * CALLS.length)
  for (const line of others) expect(line).toMatch(/ 50$/)
  expect(text).toContain('\nintercede_containers_unserved 3\n')
  end()
})

test('containers with long and hostile names have a bounded label each', () => {
  const { admit, feed, writer, end } = world()
  writer.daemon({ containerLabel: true })
  for (let index = 0; index < 1000; index++) admit(index, `container-${index}`, `\n"\\${'n'.repeat(500)}`)
  const text = metricsText(feed, undefined, 100 * 2 * CALLS.length)
  const named = seriesOf(text, 'intercede_calls_total').filter((line) => line.includes(',name="'))
  expect(named).toHaveLength(100 * 2 * CALLS.length)
  for (const line of named) expect(line).toMatch(/,container="container-\d+",name="\\\\012\\"\\\\\\\\n{125}"} 1$/)
  end()
})

test('an id that is hostile begins no series and ends no label', () => {
  const { admit, feed, writer, end } = world()
  writer.daemon({ containerLabel: true })
  admit(0, 'a"} 1\nforged{x="\u001b[2J\\')
  const text = metricsText(feed)
  expect(text).not.toMatch(/^forged/m)
  expect(text).not.toMatch(/[^\n -~]/)
  expect(text).toContain('container="a\\"} 1\\\\012forged{x=\\"\\\\033[2J\\\\\\\\"')
  end()
})

test('calls in flight and calls that hang are those that engine and keeper have said', () => {
  const { admit, feed, writer, inFlight, end } = world()
  admit(0, 'one')
  admit(1, 'two')
  inFlight(0, 2)
  inFlight(1, 1)
  writer.daemon({ stuck: 1 })
  const text = metricsText(feed)
  expect(text).toContain('\nintercede_calls_in_flight 3\n')
  expect(text).toContain('\nintercede_calls_stuck 1\n')
  // Whoever cannot read history does not know of any, which is not 0.
  expect(text).not.toContain('intercede_containers_unserved')
  end()
})
