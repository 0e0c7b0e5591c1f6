import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Tid } from '../../../../src/abi/brand.ts'
import type { CallRecord } from '../../../../src/calls/record.ts'
import { History, NameSearch } from '../../../../src/keeper/feed/history.ts'

const HOUR_S = 3600
let directory: string
let history: History
/** Of a daemon that has run for a while. */
let time = 1e6

const refusal = (minor: number): CallRecord => ({
  ...{ container: 1, serial: 1, nr: 133, arch: 0xc000003e, tid: 7 as Tid, verdict: 'continue', errno: 0 },
  ...{ reason: 'deviceNotAllowed', a: 10, b: minor, microseconds: 5, time: 0 },
})

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'intercede-history-'))
  const about = { id: 'web', serial: 1, since: 1 }
  const counts = { calls: [], refusals: [], dropped: 0 }
  const read = (containers: readonly number[]) => containers.map(() => ({ about, counts }))
  history = new History({ group: undefined, failed: (message) => expect.fail(message), read }, () => time)
  history.open({ directory, size: 1024 * 1024, age: 1e9 })
  history.began(1)
})
afterEach(() => {
  history.close()
  rmSync(directory, { recursive: true })
})

const lines = (): number => readFileSync(join(directory, 'history.jsonl'), 'utf8').split('\n').length

/** How many lines are written while each second something happens. */
async function linesWhile(seconds: number, happens: (second: number) => void): Promise<number> {
  await history.settle()
  const before = lines()
  for (let second = 0; second < seconds; second++) {
    happens(second)
    time += 1000
    history.look()
    await history.settle()
  }
  return lines() - before
}

test('History keeps what goes on and on at growing intervals', async () => {
  expect(await linesWhile(2 * HOUR_S, () => history.refused(1, refusal(1)))).toBeLessThan(14)
})

test('History keeps a new kind of refusal within ten seconds, whatever went on before', async () => {
  await linesWhile(HOUR_S, (second) => (second % 60 === 0 ? history.changed(1) : history.refused(1, refusal(1))))
  expect(await linesWhile(10, (second) => second === 0 && history.refused(1, refusal(2)))).toBe(1)
})

test('History keeps what an administrator changes at once, and that delays no refusal', async () => {
  await history.settle()
  const before = lines()
  for (const kept of [1, 2]) {
    history.changed(1)
    await history.settle()
    expect(lines() - before).toBe(kept)
  }
  expect(await linesWhile(HOUR_S, (second) => second % 15 === 0 && history.changed(1))).toBe(HOUR_S / 15)
  expect(await linesWhile(10, (second) => second === 0 && history.refused(1, refusal(1)))).toBe(1)
})

test('History has few lines more of a container that chooses new numbers all the time', async () => {
  expect(await linesWhile(2 * HOUR_S, (second) => history.refused(1, refusal(second)))).toBeLessThan(14 + 16)
})

/**
 * Replaces the state of podman, as podman does.
 *
 * @param renamed the last names of some, of which podman keeps the first one too
 * @returns the bundle of a container
 */
function store(ids: readonly string[], renamed: Readonly<Record<string, string>> = {}): string {
  const folder = join(directory, 'overlay-containers')
  mkdirSync(folder, { recursive: true })
  const all = ids.map((id) => {
    const name = `name-of-${id}`
    return { id, names: [renamed[id] ?? name], metadata: JSON.stringify({ name }) }
  })
  writeFileSync(join(folder, 'new'), JSON.stringify(all))
  renameSync(join(folder, 'new'), join(folder, 'volatile-containers.json'))
  return join(folder, 'a', 'userdata')
}

test('NameSearch finds a container that podman has removed before the first look', () => {
  const search = new NameSearch()
  const names: unknown[] = []
  const bundle = store(['a', 'b'])
  search.add(1, { id: 'a', bundle, found: (found) => names.push(found) })
  store(['b'])
  search.add(2, { id: 'a', bundle, found: (found) => names.push(found) })
  search.look()
  expect(names).toEqual([{ name: 'name-of-a' }, undefined])
})

test('NameSearch looks at once for a container that has ended', () => {
  const search = new NameSearch()
  const names: unknown[] = []
  search.add(1, { id: 'a', bundle: store(['a']), found: (found) => names.push(found) })
  search.ended(2)
  expect(names).toEqual([])
  search.ended(1)
  expect(names).toEqual([{ name: 'name-of-a' }])
})

test('NameSearch follows a container that is renamed, until it ends, and looks only if the state has changed', () => {
  const search = new NameSearch()
  const found: string[] = []
  const bundle = store(['a', 'b'])
  for (const [serial, id] of ['a', 'b'].entries())
    search.add(serial, { id, bundle, found: (names) => found.push(`${id} ${names?.name}`) })
  search.look()
  search.look()
  expect(found.splice(0)).toEqual(['a name-of-a', 'b name-of-b'])
  store(['a', 'b', 'c'], { a: 'other' })
  // One look is for all: what gets the old name does not share it.
  expect(search.add(2, { id: 'c', bundle, found: (names) => found.push(`c ${names?.name}`) })).toBe(true)
  expect(search.add(0, { id: 'a', bundle, found: () => {} })).toBe(false)
  search.look()
  expect(found.splice(0)).toEqual(['c name-of-c', 'a other', 'b name-of-b'])
  search.ended(0)
  store(['a'], { a: 'third' })
  search.look()
  expect(found).not.toContain('a third')
})
