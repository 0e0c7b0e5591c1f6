import { expect, test } from 'vitest'
import { chooseRange, DEFAULT_FIRST } from '../../../../src/runtimes/launch/ids.ts'

const ours = 'intercede:700000000:65536\n'

test.each([
  { name: 'nobody', uid: '', gid: '', range: { uid: DEFAULT_FIRST, gid: DEFAULT_FIRST } },
  {
    name: 'others',
    uid: 'me:100000:65536\n',
    gid: 'me:100000:65536\n',
    range: { uid: DEFAULT_FIRST, gid: DEFAULT_FIRST },
  },
  { name: 'us', uid: ours, gid: 'intercede:800000000:70000', range: { uid: 700_000_000, gid: 800_000_000 } },
  {
    name: 'us after containers',
    uid: `containers:1000000:65536\n${ours}`,
    gid: ours,
    range: { uid: 700_000_000, gid: 700_000_000 },
  },
  {
    name: 'containers',
    uid: '# x\ncontainers:1000000:65536',
    gid: 'containers:1000000:65536',
    range: { uid: 1_000_000, gid: 1_000_000 },
  },
])('chooseRange() where the files name $name', ({ uid, gid, range }) => {
  expect(chooseRange(uid, gid)).toEqual(range)
})

test.each([
  {
    name: 'a malformed line',
    uid: 'me:1:1\nintercede;5',
    gid: '',
    says: '/etc/subuid: line 2 is not "owner:first:count"',
  },
  { name: 'too few ids', uid: 'intercede:700000000:1000', gid: ours, says: '1000 are too few' },
  { name: 'ids of the host', uid: ours, gid: 'intercede:0:65536', says: '/etc/subgid: 0 is an id of the host itself' },
  { name: 'one file only', uid: ours, gid: '', says: '/etc/subuid has a line for it, /etc/subgid has none' },
  { name: 'a collision', uid: `me:${DEFAULT_FIRST + 65_535}:1`, gid: '', says: '"me" has them in /etc/subuid' },
])('chooseRange() refuses $name', ({ uid, gid, says }) => {
  expect(() => chooseRange(uid, gid)).toThrow(says)
})
