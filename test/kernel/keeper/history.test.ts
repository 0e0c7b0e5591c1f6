import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lchownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { HistoryFile, lineOf } from '../../../src/keeper/feed/history-file.ts'
import type { HistoryOptions } from '../../../src/keeper/process/events.ts'
import { startTime } from '../../../src/kernel/process.ts'
import { ticksPerSecond } from '../../../src/kernel/system-info.ts'
import { PREFIX } from '../../../src/policy/key.ts'
import { unendedIn } from '../../../src/processes/history-lines.ts'
import { findContainer, pastViews } from '../../../src/reader/container-view.ts'
import { pastEvents, readHistory } from '../../../src/reader/history.ts'
import { CLI, Daemon, Maker } from '../../support/daemon.ts'
import { fixture } from '../../support/fixtures.ts'
import { type Done, execute, until } from '../../support/host.ts'
import { Monitor } from '../../support/monitor.ts'
import { lacks } from '../../support/skipped.ts'
import { byUser } from '../../support/user.ts'

const KIB = 1024
const DAY = 86_400_000
const scratch = mkdtempSync(join(tmpdir(), 'intercede-history-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

let count = 0
const OUTLIVED =
  /The daemon keeps no history: containers that ended long ago, or outlived an earlier daemon, are not known/
const newDirectory = (): string => join(scratch, `${++count}`)
const event = (number: number, more: object = {}): object => ({ time: new Date(), type: 'refused', number, ...more })

interface Opened extends Disposable {
  readonly directory: string
  readonly file: HistoryFile
  readonly faults: string[]
  /** The numbers of the events that are kept. */
  numbers(): readonly unknown[]
}

function opened(
  options: Partial<HistoryOptions> = {},
  snapshot: () => readonly object[] = () => [],
  ...earlier: readonly [HistoryFile['outlived']?]
): Opened {
  const directory = options.directory ?? newDirectory()
  const faults: string[] = []
  const failed = (why: string): void => void faults.push(why)
  const file = new HistoryFile(
    { size: 64 * KIB, age: DAY, ...options, directory },
    { group: undefined, snapshot, failed },
    ...earlier,
  )
  const numbers = (): readonly unknown[] =>
    readHistory(directory, 0).events.flatMap((each) => (each.number === undefined ? [] : [each.number]))
  return { directory, file, faults, numbers, [Symbol.dispose]: () => file.close() }
}

const now = (directory: string): string => join(directory, 'history.jsonl')
const older = (directory: string): string => join(directory, 'history.1.jsonl')
const textOf = (directory: string): string => readFileSync(now(directory), 'utf8')
const linesBefore = (directory: string): readonly string[] => readFileSync(older(directory), 'utf8').trim().split('\n')

describe('the files', () => {
  test('stay within their size, keep the newest lines, and begin with what runs', async () => {
    using store = opened({}, () => [{ time: new Date(), type: 'container', serial: 7, id: 'runs', refusals: [] }])
    for (let number = 0; number < 2000; number++) {
      store.file.add(event(number, { message: 'x'.repeat(400) }))
      if (number % 20 === 0) await store.file.settle()
    }
    await store.file.settle()
    const sizes = [now(store.directory), older(store.directory)].map((path) => statSync(path).size)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(32 * KIB)
    expect(store.numbers().at(-1)).toBe(1999)
    expect(store.numbers().length).toBeGreaterThan(50)
    expect(textOf(store.directory).split('\n')[0]).toContain('"id":"runs"')
    expect(readHistory(store.directory, 0).containers.map(({ id }) => id)).toEqual(['runs'])
    expect(readdirSync(store.directory).sort()).toEqual(['history.1.jsonl', 'history.jsonl'])
    expect(statSync(now(store.directory)).mode & 0o777).toBe(0o640)
    expect(store.faults).toEqual([])
  })

  test('lose what is too old', async () => {
    const directory = newDirectory()
    mkdirSync(directory)
    const old = { ...event(1), time: new Date(Date.now() - DAY) }
    writeFileSync(now(directory), lineOf(old))
    writeFileSync(older(directory), lineOf({ ...event(0), time: new Date(Date.now() - 3 * DAY) }))
    utimesSync(older(directory), 0, Date.now() / 1000 - 2 * 86_400)
    using store = opened({ directory })
    expect(store.numbers()).toEqual([0, 1])
    store.file.look()
    await store.file.settle()
    // The file that was written became the one before it, in place of the oldest.
    expect(store.numbers()).toEqual([1])
  })

  test('lose the file before it when that is too old', () => {
    const directory = newDirectory()
    mkdirSync(directory)
    writeFileSync(older(directory), lineOf(event(0)))
    utimesSync(older(directory), 0, Date.now() / 1000 - 2 * 86_400)
    using store = opened({ directory })
    store.file.look()
    expect(existsSync(older(directory))).toBe(false)
  })

  /** A file of before, with a line of half a KiB for each number, an hour apart. */
  const writeOlder = (directory: string, count: number): void => {
    const time = (number: number): Date => new Date(Date.now() - (count - number) * 3_600_000)
    const lines = Array.from({ length: count }, (_, number) =>
      lineOf({ ...event(number, { message: 'x'.repeat(420) }), time: time(number) }),
    )
    writeFileSync(older(directory), lines.join(''))
  }

  test('lose what is beyond limits that were lowered', () => {
    const directory = newDirectory()
    mkdirSync(directory)
    writeOlder(directory, 100)
    using store = opened({ directory, size: 1024 * KIB, age: 10 * DAY })
    store.file.look()
    expect(store.numbers().length).toBe(100)
    store.file.limit({ directory, size: 64 * KIB, age: 10 * DAY })
    store.file.look()
    expect(statSync(older(directory)).size).toBeLessThanOrEqual(32 * KIB)
    expect(store.numbers().length).toBeGreaterThan(50)
    expect(store.numbers().at(-1)).toBe(99)
    store.file.limit({ directory, size: 64 * KIB, age: DAY })
    store.file.look()
    expect(store.numbers()).toEqual(Array.from({ length: 23 }, (_, index) => 77 + index))
    expect(readdirSync(directory).sort()).toEqual(['history.1.jsonl', 'history.jsonl'])
    expect(statSync(older(directory)).mode & 0o777).toBe(0o640)
    store.file.limit({ directory, size: 64 * KIB, age: 60_000 })
    store.file.look()
    expect(readdirSync(directory)).toEqual(['history.jsonl'])
  })

  test('lose all of the one before, where a full disk has no room for what is kept of it', () => {
    const directory = newDirectory()
    mkdirSync(directory)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=755', 'none', directory])
    try {
      writeOlder(directory, 110)
      using store = opened({ directory, size: 64 * KIB, age: 10 * DAY })
      store.file.look()
      expect(readdirSync(directory)).toEqual(['history.jsonl'])
    } finally {
      execFileSync('umount', [directory])
    }
  })

  test('may end within a line, or have one that is none', async () => {
    const directory = newDirectory()
    {
      using store = opened({ directory })
      for (const number of [1, 2, 3]) store.file.add(event(number))
      await store.file.settle()
    }
    truncateSync(now(directory), statSync(now(directory)).size - 9)
    expect(readHistory(directory, 0)).toMatchObject({ events: [{ number: 1 }, { number: 2 }], corrupt: 0 })
    using store = opened({ directory })
    store.file.add(event(4))
    await store.file.settle()
    expect(store.numbers()).toEqual([1, 2, 4])
    appendFileSync(now(directory), '{"time":"2999-01-01T00:00:00.000Z"}\n\0\0\0\n[]\n')
    for (const refusals of [5, {}, ['call'], [null]])
      appendFileSync(now(directory), lineOf({ time: new Date(), type: 'container', serial: 9, id: 'odd', refusals }))
    store.file.add(event(5))
    await store.file.settle()
    expect(store.numbers()).toEqual([1, 2, 4, 5])
    // The torn one, and seven that are no lines of ours.
    expect(readHistory(directory, 0)).toMatchObject({ containers: [], corrupt: 8 })
  })

  test('that end within the line of a container know it by its line before', async () => {
    const directory = newDirectory()
    const line = (...refusals: readonly string[]): object => ({
      ...{ time: new Date(), type: 'container', serial: 7, id: 'torn', refusals: [] },
      calls: refusals,
    })
    {
      using store = opened({ directory })
      store.file.add(line('one'))
      store.file.add(line('one', 'two'))
      await store.file.settle()
    }
    truncateSync(now(directory), statSync(now(directory)).size - 9)
    expect(readHistory(directory, 0)).toMatchObject({ containers: [{ id: 'torn', calls: ['one'] }], corrupt: 0 })
    using store = opened({ directory })
    store.file.add(event(1))
    await store.file.settle()
    expect(readHistory(directory, 0)).toMatchObject({ containers: [{ id: 'torn', calls: ['one'] }], corrupt: 1 })
  })

  test('are read for a word with the same answer as if all were read', async () => {
    const text = fc.oneof(fc.constantFrom('web', 'we', 'a/b', 'b', '\u00fc"\\', '/'), fc.string({ unit: 'binary' }))
    const about = fc.record({ id: text, name: fc.option(text), namespace: fc.option(text), pod: fc.option(text) })
    await fc.assert(
      fc.asyncProperty(fc.array(about, { maxLength: 6 }), text, async (all, word) => {
        using store = opened()
        for (const [index, each] of all.entries())
          store.file.add({ time: new Date(), type: 'container', serial: index % 4, ...each, ended: new Date() })
        await store.file.settle()
        const found = (only?: string): readonly string[] =>
          findContainer(pastViews(readHistory(store.directory, 0, only).containers), word).map(({ id }) => id)
        expect(found(word)).toEqual(found())
      }),
    )
  })

  test('continue in another file where somebody has taken theirs away', async () => {
    using store = opened({}, () => [{ time: new Date(), type: 'container', serial: 7, id: 'runs', refusals: [] }])
    store.file.add(event(0))
    await store.file.settle()
    renameSync(now(store.directory), join(scratch, 'taken'))
    store.file.look()
    store.file.add(event(1))
    await store.file.settle()
    expect(store.numbers()).toEqual([1])
    expect(readHistory(store.directory, 0).containers.map(({ id }) => id)).toEqual(['runs'])
    expect(store.file.isMoved).toBe(false)
  })

  test('count lines that came faster than the disk takes them', async () => {
    using store = opened()
    for (let number = 0; number < 100; number++) store.file.add(event(number, { message: 'x'.repeat(400) }))
    await store.file.settle()
    store.file.add(event(100))
    await store.file.settle()
    const kept = store.numbers().length
    expect(kept).toBeGreaterThan(20)
    expect(kept).toBeLessThan(60)
    const { events } = readHistory(store.directory, 0)
    expect(events.filter(({ type }) => type === 'historyLost')).toMatchObject([{ count: 101 - kept }])
    expect(store.faults.length).toBe(1)
  })

  test('on a full disk lose lines, which is said once and counted, and continue when there is room', async () => {
    const directory = newDirectory()
    mkdirSync(directory)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32k,mode=755', 'none', directory])
    try {
      using store = opened({ directory, size: 1024 * KIB })
      writeFileSync(join(directory, 'ballast'), Buffer.alloc(16 * KIB))
      for (let number = 0; number < 100; number++) {
        store.file.add(event(number, { message: 'x'.repeat(400) }))
        await store.file.settle()
      }
      expect(store.faults).toEqual([
        expect.stringMatching(
          /^Cannot write history in ".*": (ENOSPC|there is no room left).*; it continues when it can$/,
        ),
      ])
      const kept = store.numbers().length
      expect(kept).toBeGreaterThan(10)
      expect(kept).toBeLessThan(50)
      expect(store.file.lost).toBe(100 - kept)
      // No half line stays, of which every reader would complain.
      expect(readHistory(directory, 0).corrupt).toBe(0)
      expect(textOf(directory)).toMatch(/\n$/)
      rmSync(join(directory, 'ballast'))
      store.file.add(event(100))
      await store.file.settle()
      expect(store.numbers().length).toBe(kept + 1)
      expect(readHistory(directory, 0).events.find(({ type }) => type === 'historyLost')).toMatchObject({
        count: 100 - kept,
      })
      // Also beside the daemon that lost them, which itself shows everything since then.
      const all = pastEvents(readHistory(directory, 0), { calls: 0, events: 0 })
      expect(all.map(({ type }) => type)).toEqual(['historyLost'])
      expect(store.faults.length).toBe(1)
    } finally {
      execFileSync('umount', [directory])
    }
  })

  test('know a container that still runs, however old its line is, and none that has ended before', async () => {
    using store = opened()
    const old = new Date(Date.now() - 20 * DAY)
    const own = { init: process.pid, started: (1000 * startTime('self')!) / ticksPerSecond() }
    const line = (serial: number, more: object): object => ({ time: old, type: 'container', serial, ...more })
    store.file.add(line(1, { id: 'runs', ...own, refusals: [] }))
    store.file.add(line(2, { id: 'has ended', ...own, refusals: [] }))
    store.file.add(line(2, { ended: old, id: 'has ended', ...own, refusals: [] }))
    store.file.add(line(3, { id: 'is gone', ...own, started: own.started + 1, refusals: [] }))
    await store.file.settle()
    const { containers } = readHistory(store.directory, Date.now())
    expect(containers).toMatchObject([{ id: 'runs', unserved: true }])
    expect(readHistory(store.directory, 0).containers.map(({ id }) => id)).toEqual(['runs', 'has ended', 'is gone'])
  })

  describe('with containers that outlived an earlier daemon', () => {
    const own = { init: process.pid, started: (1000 * startTime('self')!) / ticksPerSecond() }
    const counted = Date.now() - 20 * DAY
    /** Lines of an earlier daemon, whose containers still run, or have ended by now. */
    const outlived = (count: number, more: object = {}): string =>
      Array.from({ length: count }, (_, index) =>
        lineOf({
          ...{ time: new Date(counted), type: 'container', serial: index + 1, id: `old-${index + 1}`, ...own },
          ...{ refusals: [{ call: 'x'.repeat(400), time: new Date(counted) }], ...more },
        }),
      ).join('')
    const directoryWith = (file: typeof now, text: string): string => {
      const directory = newDirectory()
      mkdirSync(directory)
      writeFileSync(file(directory), text)
      return directory
    }
    const shown = (directory: string) => readHistory(directory, Date.now()).containers
    const filler = (count: number): string =>
      Array.from({ length: count }, (_, number) => lineOf(event(number, { message: 'x'.repeat(400) }))).join('')
    const WHOLE = { id: 'old-1', unserved: true, countedUntil: counted, refusals: [{ call: expect.any(String) }] }

    test.each([
      ['a smaller size', { size: 64 * KIB, age: 100 * DAY }],
      ['a smaller age', { size: 1024 * KIB, age: DAY }],
    ])('know them after %s has cut their lines', async (_, limits) => {
      const gone = lineOf({ ...JSON.parse(outlived(1, { started: 1 })), serial: 2 })
      const directory = directoryWith(older, outlived(1) + gone + filler(200))
      // What is too old goes where nothing has been written since.
      if (limits.age === DAY) utimesSync(older(directory), 0, Date.now() / 1000 - 2 * 86_400)
      using store = opened({ directory, ...limits })
      // The number of an init may be that of another process by now.
      await until('it is known which still run', () => [...store.file.outlived.keys()].join() === '1', 10)
      store.file.look()
      expect(shown(directory)).toMatchObject([WHOLE])
      expect(statSync(older(directory)).size).toBeLessThanOrEqual(limits.size / 2)
      // The time of what it says is not the time at which it was written again.
      expect(Date.now() - Date.parse(JSON.parse(linesBefore(directory).at(-1)!).time)).toBeLessThan(DAY)
      store.file.limit({ directory, size: 32 * KIB, age: limits.age })
      store.file.look()
      await store.file.settle()
      expect(shown(directory)).toMatchObject([WHOLE])
      expect(linesBefore(directory).filter((line) => line.includes('old-1')).length).toBe(1)
    })

    test('know them however often a new file begins, until they end, or this daemon has them', async () => {
      const directory = directoryWith(now, outlived(2))
      using store = opened({ directory, size: 64 * KIB, age: 100 * DAY })
      const turn = async (): Promise<void> => {
        for (let number = 0; number < 200; number++) {
          store.file.add(event(number, { message: 'x'.repeat(400) }))
          await store.file.settle()
        }
      }
      await turn()
      expect(shown(directory)).toMatchObject([WHOLE, { id: 'old-2' }])
      store.file.add({ time: new Date(), type: 'container', serial: 2, ended: new Date(), id: 'old-2', refusals: [] })
      await turn()
      expect(shown(directory)).toMatchObject([WHOLE])
    })

    test('know those that have no room without their refusals', async () => {
      const directory = directoryWith(now, outlived(40) + filler(60))
      using store = opened({ directory, size: 64 * KIB, age: 100 * DAY })
      store.file.look()
      await store.file.settle()
      store.file.look()
      const all = shown(directory)
      expect(all.length).toBe(40)
      expect(all[0]).toMatchObject({ unserved: true, countedUntil: counted, refusals: [], droppedRefusals: 1 })
      for (const file of [now, older]) expect(statSync(file(directory)).size).toBeLessThanOrEqual(32 * KIB)
    })

    test('know those of another directory too', async () => {
      const before = directoryWith(now, outlived(1))
      using store = opened({}, undefined, new Map(unendedIn(before)))
      await store.file.settle()
      expect(shown(store.directory)).toMatchObject([WHOLE])
    })

    test('know them, and what runs, once there is room again for lines that were lost', {
      timeout: 60_000,
    }, async () => {
      const directory = newDirectory()
      mkdirSync(directory)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32k,mode=755', 'none', directory])
      const runs = { time: new Date(), type: 'container', serial: 70, id: 'runs', ...own, refusals: [] }
      try {
        writeFileSync(join(directory, 'ballast'), Buffer.alloc(32 * KIB - 4096))
        const before = directoryWith(now, outlived(1))
        const known = new Map(unendedIn(before))
        writeFileSync(now(directory), '')
        execFileSync('sh', ['-c', `cat /dev/zero >${directory}/rest 2>/dev/null || :`])
        using store = opened({ directory }, () => [runs], known)
        store.file.add(runs)
        await store.file.settle()
        store.file.look()
        await store.file.settle()
        expect(store.file.lost).toBe(2)
        expect(shown(directory)).toEqual([])
        rmSync(join(directory, 'ballast'))
        await until(
          'they are known',
          () => {
            store.file.look()
            return shown(directory).length === 2
          },
          15,
        )
        expect(shown(directory)).toMatchObject([WHOLE, { id: 'runs' }])
        // Once, as long as nothing else is lost.
        const { size } = statSync(now(directory))
        await new Promise((resolve) => setTimeout(resolve, 6000))
        store.file.look()
        await store.file.settle()
        expect([statSync(now(directory)).size, store.file.lost, store.faults.length]).toEqual([size, 0, 1])
      } finally {
        execFileSync('umount', [directory])
      }
    })
  })

  test('keep their size when the daemon ends beside a thousand containers', async () => {
    const store = opened()
    const lines = Array.from({ length: 1000 }, (_, serial) => ({ time: new Date(), type: 'container', serial }))
    store.file.close(lines.map((each) => ({ ...each, refusals: [{ call: 'x'.repeat(1000) }] })))
    expect(statSync(now(store.directory)).size).toBeLessThanOrEqual(16 * KIB)
    expect(readHistory(store.directory, 0).containers.length).toBeGreaterThan(10)
  })

  test('that are full are explained in the time of a few starts of Node', { timeout: 240_000 }, async () => {
    const directory = newDirectory()
    mkdirSync(directory)
    const [time, old] = [new Date(), new Date(Date.now() - 2 * 3_600_000)]
    const keys = { mknod: { value: 'true', origin: 'profile build' } }
    const kind = {
      count: 3,
      reason: 'deviceNotAllowed',
      verdict: 'left',
      call: 'mknodat("/dev/x")',
      says: 'x'.repeat(200),
    }
    const refusals = [time, old, time].map((each, index) => ({ ...kind, time: each, count: 3 - index }))
    const line = (serial: number): string =>
      lineOf({
        ...{ time, type: 'container', serial, ended: new Date(+time - 60_000 + serial), id: `full-${serial}`, keys },
        calls: [],
        refusals,
      })
    // As many as fit into 16 MiB, the size that is usual.
    const half = Math.floor((8 * KIB * KIB) / line(10_000).length)
    const lines = Array.from({ length: 2 * half }, (_, index) => line(10_000 + index))
    writeFileSync(older(directory), lines.slice(0, half).join(''))
    writeFileSync(now(directory), `${lines.slice(half).join('')}no line\n`)
    const explain = [CLI, 'explain', '--feed', '/none', '--history', directory, '--since', '1h']
    const { stdout, stderr } = await execute(process.execPath, explain)
    expect(stderr).toContain('1 line of history ')
    // What ended last comes first; of each container, both kinds that are new enough.
    expect(stdout).toContain(`full-${10_000 + 2 * half - 1}, ended`)
    expect(stdout.match(/^full-\d+, ended/gm)?.length).toBe(1000)
    expect(stdout).toContain(`\n\n${4 * half - 1000} more kinds of refusals, of ${2 * half - 500} containers: `)
    /** The processor time of a program, in seconds: others may use the processors meanwhile. */
    const processorTime = async (words: readonly string[]): Promise<number> => {
      const timed = 'TIMEFORMAT="%U %S"; { time "$@" >/dev/null 2>&1; } 2>&1'
      const done = await execute('bash', ['-c', timed, 'bash', process.execPath, ...words])
      return done.stdout.split(' ').reduce((sum, each) => sum + Number(each), 0)
    }
    const ratios: number[] = []
    for (let round = 0; round < 3; round++)
      ratios.push((await processorTime(explain)) / (await processorTime(['-e', '0'])))
    console.log(`explain of ${2 * half} containers takes ${ratios.map((ratio) => ratio.toFixed(1))} starts of Node`)
    expect(Math.min(...ratios)).toBeLessThan(14)
  })

  test('are listed with their ids where several containers had the same name', async () => {
    const directory = newDirectory()
    mkdirSync(directory)
    const names = ['build', 'build', 'other', '', '']
    const lines = names.map((name, serial) =>
      lineOf({
        ...{ time: new Date(), type: 'container', serial: serial + 1, ended: new Date() },
        ...{ id: `${serial}${'a'.repeat(63)}`, name, refusals: [] },
      }),
    )
    writeFileSync(now(directory), lines.join(''))
    const { stdout } = await execute(process.execPath, [CLI, 'ps', '-a', '--feed', '/none', '--history', directory])
    const shown = ['NAME', '0aaaaaaaaaaa build', '1aaaaaaaaaaa build', 'other', '3aaaaaaaaaaa', '4aaaaaaaaaaa']
    expect(stdout.match(/^\S+( \S+)?/gm)).toEqual(shown)
  })

  describe('that are read without a daemon', () => {
    const old = new Date(Date.now() - 3 * DAY)
    const refusal = (minor: number): object => ({
      ...{ time: old, call: `mknodat("/n", S_IFCHR|0666, 10:${minor})`, count: 1, verdict: 'left' },
      ...{ reason: 'deviceNotAllowed', says: 'no', wants: { key: 'mknod.devices', value: `c:10:${minor}` } },
    })
    const about = (id: string, name: string): string =>
      lineOf({
        ...{ time: old, type: 'container', serial: 7, ended: old, id, name, runtime: 'crun', calls: [] },
        ...{ keys: { mknod: { value: 'true', origin: 'metadata' } }, traps: ['mknodat'] },
        ...{ ignored: [{ key: `${PREFIX}mknod.devices`, value: 'x', why: 'of a test' }] },
        refusals: [refusal(200), refusal(229)],
      })
    const directory = newDirectory()
    const ask = (...words: readonly string[]): Promise<Done> =>
      execute(process.execPath, [CLI, ...words, '--feed', '/none', '--history', directory])
    beforeAll(() => {
      mkdirSync(directory)
      writeFileSync(now(directory), about('b'.repeat(64), 'deadbeefcafe'))
    })

    test('explain says from when on it lists containers that have ended', async () => {
      const leftOut = /Containers that ended before 20\S+Z are left out: --since names an earlier time\n$/
      expect((await ask('explain')).stdout).toMatch(leftOut)
      expect((await ask('explain', '--format', 'json')).stderr).toMatch(leftOut)
      for (const words of [['bbbb'], ['--since', '7d']]) {
        const { stdout } = await ask('explain', ...words)
        expect(stdout).toMatch(/^bbbbbbbbbbbb \(deadbeefcafe\), ended 3d ago: mknodat/)
        expect(stdout).not.toMatch(leftOut)
      }
    })

    test('a container that ended earlier than that is found by commands that take one', async () => {
      expect((await ask('inspect', 'bbbb')).stdout).toMatch(/^state +ended$/m)
      expect((await ask('advise', '--container', 'bbbb')).stdout).toContain('mknod.devices')
    })

    test('one that has ended, and a name like an id, is told by its id', async () => {
      for (const command of ['explain', 'inspect'])
        expect(await ask(command, 'deadbeefcafe')).toEqual({
          ...{ status: 1, stdout: '' },
          stderr:
            'intercede: Cannot find container "deadbeefcafe": no id begins so; it is the name of bbbbbbbbbbbb: use that\n',
        })
    })

    test('and asked for by a user are those of the own daemon, and how that is started is said', async () => {
      const session = newDirectory()
      const [elsewhere, state] = [join(session, 'history'), join(session, 'state/intercede')]
      for (const each of [elsewhere, state]) mkdirSync(each, { recursive: true })
      const ask = (...words: readonly string[]): Promise<Done> =>
        execute('unshare', byUser(...words), {
          env: { PATH: process.env.PATH, XDG_RUNTIME_DIR: session, XDG_STATE_HOME: dirname(state) },
        })
      const start = 'for your own containers, start "podman unshare intercede serve --user"'
      const missing = `Cannot read "${session}/intercede/feed.sock": there is no such socket, and no daemon of the host; ${start}`
      expect((await ask('status')).stderr).toBe(`intercede: ${missing}\n`)
      writeFileSync(now(elsewhere), about('b'.repeat(64), 'rootless'))
      // As a daemon of the user leaves it.
      symlinkSync(elsewhere, join(state, 'elsewhere'))
      for (const each of [session, elsewhere, state, join(state, 'elsewhere'), now(elsewhere)])
        lchownSync(each, 1234, 1234)
      chmodSync(scratch, 0o711)
      expect(await ask('explain', 'rootless')).toMatchObject({
        ...{ status: 125, stdout: expect.stringMatching(/^bbbbbbbbbbbb \(rootless\), ended 3d ago/) },
        stderr: `intercede: ${missing}; only history in "${elsewhere}" and what "intercede run" has started is shown\n`,
      })
    })

    test('explain notes in JSON what it notes in the text', async () => {
      const { stdout } = await ask('explain', 'bbbb')
      const notes = [...stdout.matchAll(/^ {2}note: {2}(.*)$/gm)].map(([, note]) => note)
      const rows = JSON.parse((await ask('explain', 'bbbb', '--format', 'json')).stdout) as { note?: string }[]
      expect(rows.flatMap(({ note }) => note?.split('; ') ?? []).join('; ')).toBe(notes.join('; '))
      expect(notes).toContainEqual(expect.stringMatching(/^its annotation \S+mknod\.devices=x is ignored: of a test$/))
      expect(notes).toContainEqual(expect.stringMatching(/^the container also asks for c:10:\d+ of mknod\.devices: /))
      expect((await ask('explain', 'bbbb', '--format', '{note}')).stdout.split('\n')[0]).toBe(rows[0]!.note)
    })
  })

  test('are in a directory that the group may enter, whatever the mask of the daemon', () => {
    const mask = process.umask(0o077)
    try {
      using store = opened({ directory: join(newDirectory(), 'deep', 'history') })
      for (const place of [store.directory, dirname(store.directory)]) expect(statSync(place).mode & 0o777).toBe(0o755)
      expect(process.umask()).toBe(0o077)
    } finally {
      process.umask(mask)
    }
  })

  test('belong to one daemon', () => {
    using store = opened()
    const { directory } = store
    expect(() => opened({ directory })).toThrow('another daemon keeps its history there')
  })

  test.each<readonly [string, (directory: string) => void, RegExp]>([
    ['a link', (at) => symlinkSync('/etc/hostname', now(at)), /ELOOP/],
    ['a second name of a file', (at) => linkSync(other(), now(at)), /no file of our own/],
    ['a pipe', (at) => execFileSync('mkfifo', [now(at)]), /no file of our own/],
    ['a directory', (at) => mkdirSync(now(at)), /EISDIR/],
    ['a directory that others may write to', (at) => chmodSync(at, 0o777), /can be written by everybody/],
  ])('are not kept where there is %s', (_, plant, why) => {
    const directory = newDirectory()
    mkdirSync(directory)
    plant(directory)
    expect(() => opened({ directory })).toThrow(why)
    expect(readFileSync('/etc/hostname', 'utf8')).not.toContain('"time"')
  })

  test('have ASCII only, whatever a container has chosen', () => {
    const text = fc.string({ unit: 'binary' })
    fc.assert(
      fc.property(fc.record({ id: text, name: text, labels: fc.dictionary(text, text) }), (about) => {
        const line = lineOf(about)
        expect(line).toMatch(/^[ -~]*\n$/)
        expect(JSON.parse(line)).toEqual(JSON.parse(JSON.stringify(about)))
      }),
    )
  })
})

function other(): string {
  const path = join(scratch, `other-${count}`)
  writeFileSync(path, '')
  return path
}

test('where history has just begun, an empty answer says so', async () => {
  const daemon = await Daemon.start(`history: { path: ${newDirectory()} }`)
  try {
    const ask = (command: string, ...words: readonly string[]): Promise<Done> =>
      execute(process.execPath, [CLI, command, '--feed', join(daemon.directory, 'feed.sock'), ...words])
    const { stdout } = await ask('explain')
    expect(stdout).toMatch(
      /^Nothing was refused since history begins, at 20.*Z; what happened before is not known\.\n$/,
    )
    expect(await ask('ps', '--all')).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(
        /^intercede: History begins at 20.*Z: containers that ended before, or outlived an earlier daemon, are not known\n$/,
      ),
    })
    expect(await ask('explain', '--since', '0s')).toMatchObject({ stdout: expect.stringMatching(/Z\.\n$/), stderr: '' })
  } finally {
    await daemon.close()
  }
})

describe.sequential('a daemon', () => {
  const directory = newDirectory()
  const config = `history: { path: ${directory}, size: 1m }`
  const hostile = '\u001b[31mred\u009b\u202e'
  let feed = ''
  const intercede = (command: string, ...args: readonly string[]): Promise<Done> =>
    execute(process.execPath, [CLI, command, '--feed', feed, ...args])
  const daemons: Daemon[] = []
  const start = async (): Promise<Daemon> => {
    const daemon = await Daemon.start(config)
    daemons.push(daemon)
    feed = join(daemon.directory, 'feed.sock')
    return daemon
  }
  afterEach(async () => {
    for (const daemon of daemons.splice(0)) await daemon.close()
  })
  const lines = (): readonly Record<string, unknown>[] =>
    // A line that is just being written has no end yet.
    textOf(directory)
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>)

  test('tells of a container that has ended, without the daemon, and after its restart', {
    timeout: 120_000,
  }, async ({ skip }) => {
    const why = lacks('pidTranslation')
    if (why) skip(why)
    const daemon = await start()
    // A name of a program that writes on the terminal, and one of the container.
    const program = join(daemon.directory, '\u001b[2Jx')
    copyFileSync('/usr/bin/mknod', program)
    chmodSync(program, 0o755)
    const mknod = `"$(printf '${daemon.directory}/\\033[2Jx')" ${daemon.directory}/n c 10 200`
    const named = ['--annotation', `io.kubernetes.cri.container-name=${hostile}`]
    const maker = new Maker(daemon, [...named, '--id', 'build-1'])
    expect(await maker.once()).toBe('ok')
    const { status } = await execute(fixture('filtered'), [
      ...[daemon.socket, '--userns', '200000:65536', '--pidns', '--await-agent', ...named, '--id', 'build-2'],
      ...['--metadata', 'security.syscalls.intercept.mknod=true', '--', 'sh', '-c', mknod],
    ])
    expect(status).toBe(1)
    await until('both are kept', () => lines().filter(({ ended }) => ended !== undefined).length === 2, 20)
    const live = await intercede('explain')
    expect(live).toMatchObject({ status: 0, stderr: '' })
    expect(live.stdout).toMatch(
      /^build-2 \(\\033\[31mred.*\), ended \d+s ago: mknod(at)?\(.*10:200\) {2}by "\\033\[2Jx", pid \d+\n {2}left to the kernel, once \d+s ago \[deviceNotAllowed\]\n/,
    )
    expect(live.stdout).toMatch(
      /\n {2}for good: {2}unless that is so already: make its seccomp profile with its keys and -c mknod\.devices=c:10:200,/,
    )
    expect(live.stdout).not.toMatch(/\n {2}now: /)
    const begins = /^intercede: History begins at 20\S+Z: what happened before is not known\n/
    const absent = await intercede('explain', '--since', '2h', 'web')
    expect(absent).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(`${begins.source}.*none has that name.*\n$`),
    })
    expect(absent.stderr.match(/istory begins/g)).toHaveLength(1)
    for (const words of [[], ['build-2']]) {
      const past = (since: string): Promise<Done> => intercede('events', '--no-follow', '--since', since, ...words)
      expect((await past('2h')).stderr).toMatch(new RegExp(`${begins.source}$`))
      expect((await past('0s')).stderr).toBe('intercede: No event matches\n')
    }
    process.kill(daemon.pid!, 'SIGKILL')
    await until('the daemon has ended', () => daemon.pid === undefined, 10)
    // Nobody knows where the history of this daemon is, now that it does not run.
    expect(await intercede('explain')).toMatchObject({ status: 125, stdout: '' })
    const alone = await intercede('explain', '--history', directory, '--since', 'today')
    expect(alone.stdout.replaceAll(/\d+s ago/g, '')).toContain('build-2 (\\033[31mred')
    expect(alone).toMatchObject({
      status: 125,
      stderr: expect.stringMatching(/no daemon answers.*only history in ".*" and what/),
    })
    // A user sees an error, instead of an empty list or the sentence that nothing was refused.
    const file = join(directory, 'history.jsonl')
    chownSync(file, 1000, 1000)
    chmodSync(file, 0o600)
    const asUser = ['--bounding-set=-dac_override,-dac_read_search', process.execPath, CLI]
    for (const command of ['ps', 'explain'])
      expect(await execute('setpriv', [...asUser, command, '--feed', feed, '--history', directory])).toMatchObject({
        ...{ status: 125, stdout: '' },
        stderr: expect.stringMatching(
          /^intercede: Cannot read history in .*: only root and.*\n.*no daemon answers.*--feed\n$/,
        ),
      })
    chownSync(file, 0, 0)
    chmodSync(file, 0o640)
    await daemon.close()
    const next = await start()
    try {
      const again = await intercede('explain', 'build-2', '--format', 'json')
      expect(JSON.parse(again.stdout)).toEqual([
        expect.objectContaining({
          ...{ container: 'build-2', count: 1, reason: 'deviceNotAllowed', verdict: 'left' },
          ...{ ended: expect.stringMatching(/^20.*Z$/), first: expect.stringMatching(/^20.*Z$/) },
          forGood: expect.stringContaining('mknod.devices=c:10:200'),
        }),
      ])
      expect((await intercede('explain', 'build-1')).stdout.replace(/\d+s ago/, 'SECONDS')).toBe(
        'Nothing was refused in "build-1" (it ended SECONDS). A call that its filter does not trap was judged by the kernel alone, and is not known here.\n',
      )
      expect(await intercede('explain', 'build-3')).toMatchObject({ status: 1 })
      expect((await intercede('explain', '--since', '0s')).stdout).toMatch(/^Nothing was refused since 20.*Z\.\n$/)
      const all = await intercede('ps', '--all', '--format', '{id} {state} {left}')
      expect(all.stdout).toBe('build-1 ended 0\nbuild-2 ended 1\n')
      const past = await intercede('events', '--no-follow', '--since', 'today')
      expect(past.stdout).toMatch(
        /build-2 \(\\033.*\) {2}registered.*\n(.*\n)*.*build-2 \(\\033.*\) {2}left {2}mknod.* {2}once {2}the device 10:200 is not allowed.*\n(.*\n)*.*build-2 \(\\033.*\) {2}ended/,
      )
      for (const { stdout } of [live, alone, again, all, past]) expect(stdout).toMatch(/^[ -~\n]*$/)
      expect(textOf(directory)).toMatch(/^[ -~\n]*$/)
    } finally {
      await next.close()
    }
  })

  test('that was killed leaves containers that the next one shows as not served', { timeout: 60_000 }, async () => {
    const daemon = await start()
    const ignored = ['--annotation', 'security.syscalls.intercept.mknod=true']
    const named = [...ignored, '--annotation', 'io.kubernetes.cri.container-name=orphan', '--id', 'orphan-1']
    const maker = new Maker(daemon, [...named, '--metadata', 'security.syscalls.intercept.mknod=false'])
    try {
      await maker.make()
      await until('it is kept', () => lines().some(({ id, refusals }) => id === 'orphan-1' && `${refusals}` !== ''), 20)
      process.kill(daemon.pid!, 'SIGKILL')
      await until('the daemon has ended', () => daemon.pid === undefined, 10)
      await start()
      const list = (): Promise<Done> => intercede('ps', '--all', '--format', '{name} {state} {left}')
      expect((await list()).stdout).toContain('orphan unserved 1\n')
      const unknown = /^orphan-1 \(orphan\): not all that was refused after 20\S+Z is known$/m
      expect((await intercede('explain', 'orphan')).stdout).toMatch(unknown)
      maker.end()
      await until('it is known to have ended', async () => /^orphan ended 1$/m.test((await list()).stdout), 20)
      expect((await intercede('inspect', 'orphan')).stdout).toMatch(/^ended +later than 2.*Z$/m)
      expect((await intercede('explain', 'orphan')).stdout).toMatch(unknown)
      expect((await intercede('explain', 'orphan')).stdout).toMatch(
        /^orphan-1 \(orphan\), ended less than \d+s ago: mknod(.*\n)+ {2}note: {2}its annotation \S+=true is ignored/,
      )
    } finally {
      maker.end()
    }
  })

  test('that keeps less than the one that was killed, or keeps it elsewhere, still shows what outlived that one', {
    timeout: 120_000,
  }, async () => {
    const [usual, elsewhere, third] = [newDirectory(), newDirectory(), newDirectory()]
    const started = async (history: string): Promise<Daemon> => {
      const daemon = new Daemon(`history: { ${history} }`, { STATE_DIRECTORY: usual })
      daemons.push(daemon)
      await until('the daemon serves', () => daemon.logged('serving') > 0, 60)
      feed = join(daemon.directory, 'feed.sock')
      return daemon
    }
    const kill = async (daemon: Daemon): Promise<void> => {
      process.kill(daemon.pid!, 'SIGKILL')
      await until('the daemon has ended', () => daemon.pid === undefined, 10)
    }
    /** What reads on a host with that directory, and without any daemon. */
    const withoutDaemon = (...words: readonly string[]): Promise<Done> => {
      const script = `mount -t tmpfs none /run && mount -t tmpfs -o mode=755 none /var/lib && mkdir -m 755 /var/lib/intercede &&
        mount --bind "$1" /var/lib/intercede && shift && exec "$@"`
      return execute('unshare', ['--mount', 'sh', '-c', script, 'sh', usual, process.execPath, CLI, ...words])
    }
    const link = join(usual, 'elsewhere')
    const first = await started('size: 8m')
    const maker = new Maker(first, ['--id', 'survivor', '--metadata', 'security.syscalls.intercept.mknod=false'])
    const isShown = async (): Promise<void> => {
      expect((await intercede('ps', '--format', '{id} {state} {left}')).stdout).toBe('survivor unserved 1\n')
      expect((await intercede('explain', 'survivor')).stdout).toMatch(/^survivor: mknod/m)
    }
    try {
      await maker.make()
      const isKept = (): boolean => /"id":"survivor".*"refusals":\[\{/.test(textOf(usual))
      await until('it is kept', isKept, 20)
      await kill(first)
      // What a daemon of before would have written since then.
      appendFileSync(now(usual), lineOf(event(1, { message: 'x'.repeat(400) })).repeat(4000))
      const second = await started('size: 1m')
      await until('history is cut', () => existsSync(older(usual)) && statSync(older(usual)).size <= 512 * KIB, 20)
      await isShown()
      await kill(second)
      const moved = await started(`path: ${elsewhere}`)
      await isShown()
      expect(readlinkSync(link)).toBe(elsewhere)
      const inspected = JSON.parse((await intercede('inspect', 'survivor', '--format', 'json')).stdout)
      expect(inspected).toMatchObject([{ countedUntil: expect.stringMatching(/^20.*Z$/) }])
      expect(inspected[0]).not.toHaveProperty('counted')
      moved.configure(`history: { path: ${third} }`)
      await moved.reload()
      await isShown()
      expect(readlinkSync(link)).toBe(third)
      await kill(moved)
      const says = `; only history in "${third}" and what "intercede run" has started is shown\n`
      for (const [command = '', ...words] of [['ps'], ['explain', 'survivor'], ['inspect', 'survivor']])
        expect(await withoutDaemon(command, ...words)).toMatchObject({
          ...{ status: 125, stdout: expect.stringContaining('survivor') },
          stderr: expect.stringContaining(says),
        })
      const past = await withoutDaemon('events', '--since', '1h', '--no-follow')
      expect(past.stdout).toContain('survivor')
      expect(past.stderr).toContain(`; only history in "${third}" is shown\n`)
      lchownSync(link, 1000, 1000)
      expect((await withoutDaemon('ps')).stderr).not.toContain(third)
      lchownSync(link, 0, 0)
      await started('size: 1m')
      await isShown()
      expect(existsSync(link)).toBe(false)
    } finally {
      maker.end()
    }
  })

  test('that was killed lacks only the calls of a container of LXC until the next one has had one', {
    timeout: 60_000,
  }, async () => {
    const daemon = await start()
    const lxcSocketOf = (of: Daemon): string => join(of.directory, 'lxc.sock')
    const monitor = await Monitor.start({ directory: daemon.directory, lxcSocket: lxcSocketOf(daemon) })
    const call = async (): Promise<void> => {
      const count = monitor.returned.length + 1
      monitor.ask('mknod', join(daemon.directory, 'node'), '020666', '1', '3')
      await monitor.serve('security.syscalls.intercept.mknod=false')
      expect(await monitor.returns(count)).toBe('EPERM')
    }
    try {
      await call()
      const { id = '' } = JSON.parse((await intercede('ps', '--format', 'json')).stdout)[0]
      const isKept = (): boolean => lines().some((line) => line.id === id && `${line.refusals}` !== '')
      await until('it is kept', isKept, 20)
      process.kill(daemon.pid!, 'SIGKILL')
      await until('the daemon has ended', () => daemon.pid === undefined, 10)
      monitor.reconnect(lxcSocketOf(await start()))
      const inspected = async (): Promise<string> => (await intercede('inspect', id)).stdout
      expect(await inspected()).toMatch(/^calls +1 until 20\S+Z: .*; later ones are not known$/m)
      await call()
      await until('it is counted', async () => /^calls +2: /m.test(await inspected()), 10)
      expect(await inspected()).toMatch(/^calls +2: .* 2 left.*; those between 20\S+Z and 20\S+Z are not known$/m)
      for (const words of [['ps'], ['ps', '--all'], ['inspect', id]]) {
        const [row] = JSON.parse((await intercede(words[0]!, ...words.slice(1), '--format', 'json')).stdout)
        expect(row).toMatchObject({ left: 2, state: 'served' })
        expect([row.countedUntil, row.countedAgain].map((time) => new Date(time).toISOString())).toEqual([
          row.countedUntil,
          row.countedAgain,
        ])
        expect(row.countedUntil < row.countedAgain).toBe(true)
      }
      const explained = (await intercede('explain', id)).stdout
      expect(explained).toMatch(/: not all that was refused between 20\S+Z and 20\S+Z is known$/m)
      expect(explained).not.toContain('after 20')
    } finally {
      await monitor.end()
    }
  })

  test('of another feed may serve what its history has: nothing says that it is dead', {
    timeout: 60_000,
  }, async () => {
    const asked = await Daemon.start()
    const daemon = await start()
    const maker = new Maker(daemon, ['--id', 'lives', '--metadata', 'security.syscalls.intercept.mknod=false'])
    const ask = (command: string, ...args: readonly string[]): Promise<Done> =>
      execute(process.execPath, [CLI, command, ...args, '--history', directory])
    const at = ['--feed', join(asked.directory, 'feed.sock')]
    try {
      await maker.make()
      await until('it is kept', () => lines().some(({ id, refusals }) => id === 'lives' && `${refusals}` !== ''), 20)
      const says = /^intercede: History in ".*" is not that of the daemon at ".*feed\.sock": .* --feed$/m
      const explained = await ask('explain', 'lives', ...at)
      expect(explained).toMatchObject({ status: 0, stderr: expect.stringMatching(says) })
      expect(explained.stdout).not.toMatch(/is not served|restart|intercede reload/)
      expect(explained.stdout).toMatch(/^ {2}for good: {2}make its seccomp profile /m)
      const list = await ask('ps', ...at)
      expect(list).toMatchObject({ status: 0, stderr: expect.stringMatching(says) })
      expect(list.stdout).toMatch(/^lives +unknown /m)
      const own = await ask('explain', 'lives', '--feed', feed)
      expect(own).toMatchObject({ status: 0, stderr: '' })
      expect(own.stdout).toMatch(/^ {2}now: {2}intercede set --feed /m)
    } finally {
      maker.end()
      await asked.close()
    }
  })

  test('that hangs may serve what history has: no command says that it does not', { timeout: 60_000 }, async () => {
    const daemon = await start()
    const maker = new Maker(daemon, ['--id', 'waits', '--metadata', 'security.syscalls.intercept.mknod=false'])
    const past = (command: string, ...args: readonly string[]): Promise<Done> =>
      intercede(command, ...args, '--history', directory)
    try {
      await maker.make()
      await until('it is kept', () => lines().some(({ id, refusals }) => id === 'waits' && `${refusals}` !== ''), 20)
      process.kill(daemon.pid!, 'SIGSTOP')
      const HANGS = {
        status: 125,
        stderr: expect.stringContaining('the daemon does not answer: it hangs, is stopped, or starts'),
      }
      const [list, inspected, explained] = [await past('ps'), await past('inspect', 'waits'), await past('explain')]
      for (const done of [list, inspected, explained]) expect(done).toMatchObject(HANGS)
      expect(list.stdout).toMatch(/^waits +unknown +- +1\+ /m)
      expect(inspected.stdout).toMatch(/^state +unknown$/m)
      expect(explained.stdout).toMatch(/^waits: mknod/)
      const cases = await past('test', '--from-records', 'waits')
      expect(cases).toMatchObject({
        ...HANGS,
        stdout: expect.stringMatching(/^ {2}- call: mknod.*\n.*\n +reason: keyOff$/m),
      })
      expect(cases.stderr).toMatch(/; only history in .* is shown\n.*the cases are of what was refused\n$/)
      process.kill(daemon.pid!, 'SIGKILL')
      await until('the daemon has ended', () => daemon.pid === undefined, 10)
      const gone = { status: 125, stderr: expect.stringContaining('no daemon answers there') }
      const after = await past('inspect', 'waits')
      expect(after).toMatchObject(gone)
      expect(after.stdout).toMatch(/^state +not served$/m)
      const last = await past('events', '--since', 'today', '--tail', '1', '--no-follow')
      expect(last).toMatchObject(gone)
      expect(last.stderr).toMatch(/; only history in ".*" is shown\n$/)
      expect(last.stdout).toMatch(/^20.* waits {2}left {2}mknod.*\n$/)
    } finally {
      if (daemon.pid !== undefined) process.kill(daemon.pid, 'SIGCONT')
      maker.end()
    }
  })

  test('whose disk is full tells what it remembers of a container, not what its last line has', {
    timeout: 60_000,
  }, async () => {
    const small = newDirectory()
    mkdirSync(small)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=755', 'none', small])
    const daemon = await Daemon.start(`history: { path: ${small}, size: 1m }`)
    daemons.push(daemon)
    feed = join(daemon.directory, 'feed.sock')
    const maker = new Maker(daemon, ['--id', 'full', '--metadata', 'security.syscalls.intercept.mknod=false'])
    await until('its first line is kept', () => textOf(small).includes('"id":"full"'))
    // Neither a page of its own, nor the rest of its last one; empty lines are none.
    execFileSync('sh', ['-c', `cat /dev/zero >${small}/ballast 2>/dev/null || :`])
    appendFileSync(now(small), '\n'.repeat(4096 - (statSync(now(small)).size % 4096)))
    try {
      await maker.make()
      maker.end()
      const all = async (): Promise<string> =>
        (await intercede('ps', '--all', '--format', '{id} {state} {left}')).stdout
      await until('it has ended', async () => (await all()) === 'full ended 1\n', 20)
      const explained = (): Promise<Done> => intercede('explain', 'full')
      expect((await explained()).stdout).toMatch(/^full, ended \d+s ago: mknod.*\n.*\[keyOff\]/)
      const lacks = /^intercede: History lacks at least \d+ lines? that could not be written/m
      await until('the loss is told', async () => lacks.test((await explained()).stderr), 20)
      expect((await intercede('ps', '--all')).stderr).toMatch(lacks)
      expect((await intercede('explain', 'mknod')).stderr).toMatch(/to ask about a call, give it to --if, such as/)
      expect(await intercede('explain', 'another')).toMatchObject({
        ...{
          status: 1,
          stderr: expect.stringMatching(
            /none has that name; .*; history begins at 20\S+Z; history lacks at least \d+ lines? that could/,
          ),
        },
      })
    } finally {
      maker.end()
      await daemon.close()
      execFileSync('umount', [small])
    }
  })

  test('begins history again where somebody has moved its directory', { timeout: 60_000 }, async () => {
    const path = newDirectory()
    const daemon = await Daemon.start(`history: { path: ${path}, size: 1m }`)
    daemons.push(daemon)
    const maker = new Maker(daemon, ['--id', 'moved', '--metadata', 'security.syscalls.intercept.mknod=false'])
    try {
      await maker.make()
      await until('its first line is kept', () => textOf(path).includes('"id":"moved"'))
      renameSync(path, `${path}.taken`)
      // A reload looks at once, and not within a minute.
      await daemon.reload()
      await until('it is there again', () => existsSync(now(path)) && textOf(path).includes('"id":"moved"'))
      expect(JSON.stringify(daemon.log)).toContain('since somebody has moved or removed that: it begins again there')
    } finally {
      maker.end()
    }
  })

  test('shows what it does not serve again once a full disk, put in place of the one of its history, has room', {
    timeout: 90_000,
  }, async () => {
    const path = newDirectory()
    const configuration = `history: { path: ${path}, size: 1m }`
    const first = await Daemon.start(configuration)
    const maker = new Maker(first, ['--id', 'outlives'])
    let second: Daemon | undefined
    let mounted = false
    try {
      await until('its line is kept', () => textOf(path).includes('"id":"outlives"'))
      process.kill(first.pid!, 'SIGKILL')
      await until('the daemon has ended', () => first.pid === undefined, 10)
      second = await Daemon.start(configuration)
      feed = join(second.directory, 'feed.sock')
      const list = (): Promise<Done> => intercede('ps', '--format', '{id} {state}')
      await until('it is known', async () => (await list()).stdout === 'outlives unserved\n', 10)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=755', 'none', path])
      mounted = true
      execFileSync('sh', ['-c', `cat /dev/zero >${path}/ballast 2>/dev/null || :`])
      await second.reload()
      await until('it begins again', () => existsSync(now(path)), 20)
      await until('the loss is told', async () => /^intercede: History lacks at least/m.test((await list()).stderr), 20)
      rmSync(join(path, 'ballast'))
      await until('it is known again', async () => (await list()).stdout === 'outlives unserved\n', 20)
    } finally {
      maker.end()
      await second?.close()
      await first.close()
      if (mounted) execFileSync('umount', [path])
    }
  })

  test('keeps who has given an order, and what it changed', { timeout: 60_000 }, async () => {
    const begin = new Date().toISOString()
    const daemon = await start()
    const maker = new Maker(daemon, ['--id', 'ordered', '--metadata', 'security.syscalls.intercept.mknod=false'])
    try {
      await maker.make()
      await until(
        'its refusal is kept',
        () => lines().some(({ id, refusals }) => id === 'ordered' && `${refusals}` !== ''),
        20,
      )
      const child = await intercede('set', 'ordered', 'mknod')
      expect(child.status).toBe(0)
      const last = (): unknown =>
        lines()
          .filter(({ id }) => id === 'ordered')
          .at(-1)?.keys
      await until(
        'the new keys are kept',
        () => /"mknod":\{"value":"true","origin":"set"/.test(JSON.stringify(last())),
        20,
      )
      await execute(process.execPath, [CLI, 'reload', '--control', join(daemon.directory, 'control.sock')])
      process.kill(daemon.pid!, 'SIGHUP')
      await until('the orders are kept', () => lines().filter(({ type }) => type === 'reloadOrdered').length === 2, 20)
      const who = { uid: 0, pid: expect.any(Number), comm: 'intercede' }
      expect(lines().find(({ type }) => type === 'set')).toMatchObject({
        ...{ container: 'ordered', who, message: expect.stringMatching(/^root has set /) },
        changed: {
          'security.syscalls.intercept.mknod': {
            was: { value: 'false', origin: 'metadata' },
            is: { value: 'true', origin: 'set' },
          },
        },
      })
      const [order, signal] = lines().filter(({ type }) => type === 'reloadOrdered')
      expect(order).toMatchObject({ who, message: 'root has ordered a reload' })
      expect(signal).toMatchObject({ message: 'SIGHUP has ordered a reload' })
      expect(daemon.log.find(({ message }) => message === 'container changed')).toMatchObject({ who })
      expect(daemon.log.find(({ message }) => message === 'reload ordered')).toMatchObject({ by: 'root', who })
      const inspect = async (): Promise<string> => (await intercede('inspect', 'ordered')).stdout
      expect(await inspect()).toMatch(/set by root, \S+ ago/)
      maker.end()
      await until('it has ended', async () => /^state +ended$/m.test(await inspect()), 20)
      expect(await inspect()).toMatch(/set by root, \S+ ago/)
      // It says where the key can be allowed for good.
      const { keys } = lines().findLast(({ id }) => id === 'ordered')!
      expect(keys).toMatchObject({ mknod: { origin: 'set', instead: { value: 'false', origin: 'metadata' } } })
    } finally {
      maker.end()
      await daemon.close()
    }
    // Lines of containers may follow.
    const stopped = lines().filter(({ time, type }) => type === 'stopped' && String(time) > begin)
    expect(stopped).toMatchObject([{ message: 'the daemon was ended by SIGTERM' }])
  })

  test('writes of a container that refuses all the time less and less often', { timeout: 60_000 }, async () => {
    const daemon = await start()
    const maker = new Maker(daemon, ['--id', 'flood', '--metadata', 'security.syscalls.intercept.mknod=false'])
    try {
      // Its first line has no refusal then.
      await until('it is kept that the container is there', () => lines().some(({ id }) => id === 'flood'))
      const end = Date.now() + 5000
      while (Date.now() < end) await maker.make()
      const running = lines().filter(
        ({ id, ended, refusals }) => id === 'flood' && ended === undefined && `${refusals}` !== '',
      )
      expect(running.length).toBe(1)
      expect(Number((running[0]!.refusals as readonly { count: number }[])[0]!.count)).toBeGreaterThan(0)
    } finally {
      maker.end()
      await daemon.close()
    }
    // Whatever happens to the container: the daemon keeps what is new when it ends.
    const [last] = lines()
      .filter(({ id }) => id === 'flood')
      .slice(-1)
    expect(Number((last!.refusals as readonly { count: number }[])[0]!.count)).toBeGreaterThan(1)
  })

  test('whose path is unusable is told by the check and by the reload, and serves', async () => {
    const file = join(scratch, 'file')
    writeFileSync(file, '')
    const daemon = await start()
    const wrong = join(scratch, 'wrong.yaml')
    writeFileSync(wrong, `history: { path: ${file}/x }`)
    daemon.configure(readFileSync(wrong, 'utf8'))
    const says = `Cannot keep history in "${file}/x": "${file}" is no directory; name another one with history.path`
    const command = (...words: readonly string[]): Promise<Done> => execute(process.execPath, [CLI, ...words])
    expect(await command('reload', '--control', join(daemon.directory, 'control.sock'))).toEqual({
      ...{
        status: 0,
        stdout: 'of the daemon itself, history changed\n0 of 0 containers changed\n',
        stderr: `intercede: ${says}\n`,
      },
    })
    const check = await command('serve', '--check-config', '--config', wrong)
    expect(check).toMatchObject({ status: 0, stderr: `intercede: ${says}\n` })
    expect(check.stdout).toContain(`\nhistory: "${file}/x", at most 16 MiB and 30 days\n`)
  })

  test('that cannot write there shows which containers outlived the one before it, and says that it keeps nothing', {
    timeout: 60_000,
  }, async () => {
    const [file, place] = [newDirectory(), newDirectory()]
    mkdirSync(place)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'none', place])
    const first = await Daemon.start(`history: { path: ${place} }`)
    const maker = new Maker(first, ['--id', 'outlives'])
    let second: Daemon | undefined
    try {
      await until('its line is kept', () => textOf(place).includes('"id":"outlives"'))
      process.kill(first.pid!, 'SIGKILL')
      await until('the daemon has ended', () => first.pid === undefined, 10)
      execFileSync('mount', ['-o', 'remount,ro', place])
      second = await Daemon.start(`history: { path: ${place} }`)
      feed = join(second.directory, 'feed.sock')
      const list = await intercede('ps', '--format', '{id} {state}')
      expect(list).toMatchObject({ status: 0, stdout: 'outlives unserved\n' })
      expect(list.stderr).toMatch(/^intercede: History has nothing of this daemon: Cannot keep history in .*EROFS.*\n$/)
      const { stdout } = await intercede('status')
      expect(stdout).toMatch(/^history +\/.*, where nothing new is kept: Cannot keep history .*EROFS/m)
      expect(stdout).toMatch(/^containers .* 1 not served by any daemon/m)
      // Where nothing was kept before, nothing is known.
      second.configure(`history: { path: ${file}/x }`)
      writeFileSync(file, '')
      await second.reload()
      const none = await intercede('ps')
      expect(none).toMatchObject({ status: 0, stderr: expect.stringMatching(OUTLIVED) })
      expect(none.stderr).toMatch(/are not known\. Cannot keep history in /)
      second.configure('history: { path: none }')
      await second.reload()
      expect((await intercede('ps')).stderr).toBe('')
      expect((await intercede('ps', '--all')).stderr).toMatch(OUTLIVED)
      expect((await intercede('status')).stdout).toMatch(/^containers .*, those of earlier daemons not known, /m)
      expect((await intercede('status', '--format', '{unserved}')).stdout).toBe('\n')
    } finally {
      maker.end()
      await second?.close()
      await first.close()
      execFileSync('umount', [place])
    }
  })

  test('without a path of its own keeps none, and one whose path is taken says so and serves', async () => {
    const daemon = await start()
    const second = await Daemon.start(config)
    const third = await Daemon.start('')
    try {
      expect(second.log.find(({ level }) => level === 'error')).toMatchObject({
        message: expect.stringMatching(/^Cannot keep history in ".*": another daemon keeps its history there/),
      })
      const served = [daemon, second].map(({ log }) => log.find(({ message }) => message === 'serving')?.history)
      expect(served).toEqual([directory, 'none: containers that outlived an earlier daemon are not known'])
      const maker = new Maker(second, [])
      expect(await maker.once()).toBe('ok')
      feed = join(daemon.directory, 'feed.sock')
      expect((await intercede('status')).stdout).toMatch(new RegExp(`^history +${directory}, since 2\\d{3}-`, 'm'))
      feed = join(second.directory, 'feed.sock')
      expect((await intercede('status')).stdout).toMatch(
        /^history +not kept: Cannot keep history in ".*": another daemon keeps its history there/m,
      )
      expect((await intercede('doctor')).stdout).toMatch(
        /^ +missing +the running daemon: Cannot keep history in ".*": another daemon keeps its history there/m,
      )
      const slip = ['ps', 'explain', 'events'].map((command) =>
        intercede(command, '--history', '/histroy', ...(command === 'events' ? ['--since', '1h', '--no-follow'] : [])),
      )
      for (const done of await Promise.all(slip))
        expect(done).toEqual({
          status: 125,
          stdout: '',
          stderr: expect.stringContaining('Cannot read history in "/histroy"'),
        })
      feed = join(third.directory, 'feed.sock')
      expect((await intercede('status', '--format', 'json')).status).toBe(0)
      expect(third.log.every(({ level }) => level === 'info')).toBe(true)
    } finally {
      for (const each of [daemon, second, third]) await each.close()
    }
  })
})
