import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import { map, memfd, readOnly } from '../../../src/kernel/shared-memory.ts'
import { countsSize, formatCounts } from '../../../src/memories/counts-layout.ts'
import { DIRECTORY_SIZE, DirectoryWriter, formatDirectory } from '../../../src/memories/directory.ts'
import { formatRecords, RecordWriter, recordsSize } from '../../../src/memories/records.ts'
import { keyNames } from '../../../src/policy/keys.ts'
import { DirectoryReader, MemoryFile } from '../../../src/reader/directory-reader.ts'
import type { EventView } from '../../../src/reader/event-stream.ts'
import { concerns, type EventOptions, EventStream } from '../../../src/reader/event-stream.ts'
import { FeedReader } from '../../../src/reader/feed.ts'

/** The memories of a daemon, in which things happen, and a reader of them. */
function world(size = 1024) {
  const fds = [memfd('records', recordsSize(size)), memfd('counts', countsSize(1)), memfd('dir', DIRECTORY_SIZE)]
  const [records, counts, directory] = fds.map(map) as [ArrayBuffer, ArrayBuffer, ArrayBuffer]
  formatRecords(records)
  formatCounts(counts)
  formatDirectory(directory)
  const calls = new RecordWriter(records, () => {})
  const events = new DirectoryWriter(directory)
  const call = (time: number, serial = 1, more: object = {}): void =>
    calls.write({
      ...{
        container: 0,
        serial,
        nr: 133,
        arch: 0xc000003e,
        tid: 7 as Tid,
        verdict: 'act',
        errno: 0,
        reason: 'done',
      },
      ...{ a: 0, b: 0, microseconds: 1, time },
      ...more,
    })
  const event = (time: number): void => events.add('events', { time, type: 'set', id: 'c', message: `at ${time}` })
  async function read(options: Partial<EventOptions> = {}): Promise<readonly EventView[]> {
    const connect = (): FeedReader => new FeedReader(fds.map((fd) => new MemoryFile(readOnly(fd))))
    using stream = new EventStream({ connect, follow: false, ...options })
    const all: EventView[] = []
    for await (const each of stream.events()) all.push(each)
    return all
  }
  /** Begins to read, of which the first batch comes when it is asked for. */
  function begin(options: Partial<EventOptions>) {
    const connect = (): FeedReader => new FeedReader(fds.map((fd) => new MemoryFile(readOnly(fd))))
    const stream = new EventStream({ connect, follow: false, ...options })
    const batches = stream.batches()
    const next = async (): Promise<readonly number[]> =>
      ((await batches.next()).value ?? []).map(({ time }: EventView) => time)
    return { next, [Symbol.dispose]: () => stream[Symbol.dispose]() }
  }
  const named = (id: string, more: object): void => events.container(0, { id, index: 0, serial: 1, ...more })
  const end = (): void => {
    for (const fd of fds) fd[Symbol.dispose]()
  }
  return { call, event, named, read, begin, end }
}

const happenings = fc.array(fc.record({ isCall: fc.boolean(), after: fc.nat(1) }), { minLength: 1, maxLength: 40 })

test('however calls and events follow each other, a tail is the end of all, and a cursor says where it stands', async () => {
  const { call, event, read, end } = world(16)
  let time = 0
  await fc.assert(
    fc.asyncProperty(happenings, fc.nat(50), async (all, tail) => {
      for (const { isCall, after } of all) {
        time += after
        if (isCall) call(time)
        else event(time)
      }
      const whole = await read()
      // Of the oldest events the calls beside them may be gone.
      const shown = whole.filter(({ type }) => type !== 'lost')
      expect(await read({ tail })).toEqual(tail === 0 ? [] : shown.slice(-tail))
      const from = shown.findIndex(({ type }) => type === 'call')
      for (const [index, { cursor }] of shown.entries())
        if (from >= 0 && index >= from && index % 7 === 0)
          expect(await read({ after: cursor! })).toEqual(shown.slice(index + 1))
    }),
    { numRuns: 30 },
  )
  end()
})

test('events stand between the calls beside which they happened, however many calls there are', async () => {
  const { call, event, read, end } = world()
  for (let time = 1; time <= 900; time++)
    if (time % 100 === 50) event(time)
    else call(time)
  expect((await read()).map(({ time }) => time)).toEqual(Array.from({ length: 900 }, (_, index) => index + 1))
  end()
})

test.each([
  { of: 'all', wanted: undefined, follow: true },
  { of: 'what is wanted', wanted: ({ time }: EventView) => time !== 2, follow: true },
  { of: 'all', wanted: undefined, follow: false },
])(
  'the first batch is the tail of $of that was there, even if it is empty, and the next is what came then (follow: $follow)',
  async ({ wanted, follow }) => {
    for (const [tail, first] of [
      [0, []],
      [1, [4]],
      [3, wanted ? [1, 3, 4] : [2, 3, 4]],
    ] as const) {
      const { call, event, begin, end } = world()
      for (const time of [1, 2, 3]) call(time)
      event(4)
      using stream = begin({ tail, wanted, follow })
      const past = stream.next()
      call(5)
      event(6)
      expect(await past).toEqual(first)
      expect(await stream.next()).toEqual(follow ? [5, 6] : [])
      end()
    }
  },
)

test('events that were overwritten since a cursor are said', async () => {
  const { call, event, read, end } = world()
  call(1)
  const [{ cursor }] = (await read()) as readonly [EventView]
  for (let time = 2; time < 302; time++) event(time)
  const after = await read({ after: cursor! })
  expect(after[0]).toMatchObject({ type: 'lost', message: '44 events of the daemon are not there any more' })
  expect(after).toHaveLength(1 + 256)
  end()
})

test('a call and an event have what their container is called, also if that is known only later', async () => {
  const { call, event, named, read, end } = world()
  named('c', {})
  call(1)
  event(2)
  for (const each of await read()) expect(Object.keys(each)).not.toContain('name')
  const names = { name: 'web', image: 'debian', namespace: 'team', pod: 'pod-1', labels: { tier: 'front' } }
  named('c', { ...names, bundle: '/b' })
  const shown = await read()
  expect(shown.map(({ type }) => type)).toEqual(['call', 'set'])
  for (const each of shown) expect(each).toMatchObject({ container: 'c', ...names })
  expect(shown.every((each) => !('bundle' in each))).toBe(true)
  // A pod without a name of its container.
  named('c', { namespace: 'team', pod: 'pod-1' })
  expect(await read()).toMatchObject([{ name: 'team/pod-1' }, { name: 'team/pod-1' }])
  end()
})

test('containers that are forgotten cost one look at those that are known, however many they are', async () => {
  const { call, named, read, end } = world()
  named('c', { name: 'web' })
  for (let time = 1; time <= 900; time++) call(time, time % 3 === 0 ? 1 : 1000 + time)
  const looks = vi.spyOn(DirectoryReader.prototype, 'briefContainers')
  const shown = await read()
  expect(looks.mock.calls.length).toBeLessThanOrEqual(2)
  expect(shown.filter(({ name }) => name === 'web')).toHaveLength(300)
  expect(shown.filter(({ container }) => container === '')).toHaveLength(600)
  looks.mockRestore()
  end()
})

test('a container that comes while events are read is known at once, also when the clock was set', async () => {
  const { call, named, begin, end } = world()
  const clock = vi.spyOn(Date, 'now')
  using stream = begin({ follow: true, wanted: ({ container }) => container === 'c' })
  for (const [index, time] of [Date.now(), Date.now() + 3_600_000, Date.now() - 3_600_000].entries()) {
    clock.mockReturnValue(time)
    named('c', { serial: index + 1 })
    call(time, index + 1)
    expect(await stream.next()).toEqual([time])
  }
  clock.mockRestore()
  end()
})

test('a daemon that goes on is there, although the clock is set', async () => {
  const { call, begin, end } = world()
  const clock = vi.spyOn(Date, 'now')
  using stream = begin({ follow: true })
  call(1)
  await stream.next()
  const next = stream.next()
  const looked = () => new Promise((resolve) => setTimeout(resolve, 250))
  await looked()
  clock.mockReturnValue(Date.now() + 3_600_000)
  await looked()
  call(2)
  expect(await next).toEqual([2])
  clock.mockRestore()
  end()
})

test('what was lost concerns all containers', () => {
  const event = { time: 0, container: '', type: 'historyLost' }
  expect(concerns(event, 'c')).toBe(true)
  expect(concerns({ ...event, type: 'reloaded' }, 'c')).toBe(false)
})

test('a call whose key is off says by what it is, in that container, in words', async () => {
  const { call, named, read, end } = world()
  const off = { reason: 'keyOff', a: keyNames.indexOf('mknod') }
  call(1, 1, off)
  call(2, 2, off)
  const remedies = async (): Promise<unknown> => (await read()).map(({ remedy }) => remedy)
  const inGeneral = expect.stringContaining('another source of its value')
  expect(await remedies()).toEqual([inGeneral, inGeneral])
  named('one', { keys: { mknod: { value: 'false', origin: 'annotation' } } })
  expect(await remedies()).toEqual(['turn it on: it is off by its annotation', inGeneral])
  named('one', { keys: { mknod: { value: 'true', origin: 'set' } } })
  expect(await remedies()).toEqual([inGeneral, inGeneral])
  end()
})
