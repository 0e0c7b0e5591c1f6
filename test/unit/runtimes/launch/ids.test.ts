import { expect, test } from 'vitest'
import {
  changeOf,
  chooseRange,
  DEFAULT_FIRST,
  IDS_RECORD,
  parseRecord,
  sourcesFrom,
} from '../../../../src/runtimes/launch/ids.ts'

const ours = 'intercede:700000000:65536\n'
const both = (first: number) => ({ uid: first, gid: first })
const usual = both(DEFAULT_FIRST)
const recorded = both(900_000_000)

test.each([
  { name: 'nobody', uid: '', gid: '', range: usual },
  { name: 'others', uid: 'me:100000:65536\n', gid: 'me:100000:65536\n', range: usual },
  { name: 'us', uid: ours, gid: 'intercede:800000000:70000', range: { uid: 700_000_000, gid: 800_000_000 } },
  { name: 'us after containers', uid: `containers:1000000:65536\n${ours}`, gid: ours, range: both(700_000_000) },
  // podman gives the ids of this entry to containers with --userns=auto.
  { name: 'containers', uid: '# x\ncontainers:1000000:65536', gid: 'containers:1000000:65536', range: usual },
])('chooseRange() where the files name $name', ({ uid, gid, range }) => {
  expect(chooseRange({ subuid: uid, subgid: gid })).toEqual(range)
})

test.each([
  {
    name: 'a malformed line',
    uid: 'me:1:1\nintercede;5',
    gid: '',
    says: '/etc/subuid: line 2 is not "owner:first:count"',
  },
  { name: 'too few ids', uid: 'intercede:700000000:1000', gid: ours, says: '1000 are too few' },
  {
    name: 'ids of the host',
    uid: ours,
    gid: 'intercede:0:65536',
    says: '/etc/subgid: 0 is an id of a user of the host',
  },
  { name: 'one file only', uid: ours, gid: '', says: '/etc/subuid has a line for it, /etc/subgid has none' },
  { name: 'a collision', uid: `me:${DEFAULT_FIRST + 65_535}:1`, gid: '', says: '"me" has them in /etc/subuid' },
  {
    name: 'ids of ours that are those of containers, too',
    uid: `containers:600000000:200000000\n${ours}`,
    gid: ours,
    says: '"containers" has them in /etc/subuid; let the lines "intercede:FIRST:65536"',
  },
])('chooseRange() refuses $name', ({ uid, gid, says }) => {
  expect(() => chooseRange({ subuid: uid, subgid: gid })).toThrow(says)
})

test('chooseRange() stays with the recorded ids, whichever lines of others come or go', () => {
  for (const text of ['', 'containers:1000000000:1000000\n', `me:${DEFAULT_FIRST}:65536\n`])
    expect(chooseRange({ subuid: text, subgid: text, recorded })).toEqual(recorded)
})

test('chooseRange() refuses recorded ids that another owner has got since', () => {
  const taken = 'containers:900000000:1000000\n'
  expect(() => chooseRange({ subuid: '', subgid: taken, recorded })).toThrow(
    'Cannot use the ids from 900000000 for containers of run: "containers" has them in /etc/subgid',
  )
})

test('changeOf() says what moves, and nothing where nothing does', () => {
  const sources = { subuid: ours, subgid: ours, recorded }
  const range = chooseRange(sources)
  expect(range).toEqual(both(700_000_000))
  expect(changeOf(range, sources)).toMatch(
    /start at 700000000, before at 900000000, because of a line "intercede".*chown/,
  )
  expect(changeOf(range, { ...sources, recorded: range })).toBeUndefined()
  expect(changeOf(range, { subuid: ours, subgid: ours })).toBeUndefined()
})

test('the record is read back, and one that is none is an error with a remedy', () => {
  const sources = sourcesFrom((file) => (file === IDS_RECORD ? '900000000 900000001\n' : ''))
  expect(chooseRange(sources)).toEqual({ uid: 900_000_000, gid: 900_000_001 })
  expect(parseRecord('')).toBeUndefined()
  for (const text of ['x', '900000000', '0 0', '900000000 900000000\nmore'])
    expect(() => parseRecord(text)).toThrow('Cannot read /var/lib/intercede/run-ids: it is not "UID GID"')
})
