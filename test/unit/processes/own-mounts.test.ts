import { expect, test } from 'vitest'
import { mountPoints } from '../../../src/processes/own-mounts.ts'

const mountinfo = (...points: readonly string[]): string =>
  points.map((point, index) => `${index + 2} 1 0:${index} / ${point} rw shared:1 - ext4 /dev/x rw\n`).join('')

test.each([
  { what: 'the root alone', points: ['/'], paths: ['/usr/bin/sh'], trees: [], kept: [] },
  { what: 'others', points: ['/', '/srv', '/usrlocal'], paths: ['/usr/bin/sh'], trees: [], kept: [] },
  {
    what: 'on the way, the outer ones first',
    points: ['/', '/usr/local', '/usr', '/usr/share', '/usr/local/bin/node'],
    paths: ['/usr/local/bin/node'],
    trees: [],
    kept: ['/usr', '/usr/local', '/usr/local/bin/node'],
  },
  { what: 'one on the other', points: ['/', '/run', '/run'], paths: ['/run'], trees: [], kept: ['/run'] },
  {
    what: 'below a tree',
    points: ['/', '/sys', '/sys/fs/cgroup', '/system', '/srv/a'],
    paths: [],
    trees: ['/sys'],
    kept: ['/sys', '/sys/fs/cgroup'],
  },
  { what: 'with a blank', points: ['/', String.raw`/a\040b`], paths: ['/a b/c'], trees: [], kept: ['/a b'] },
])('$what', ({ points, paths, trees, kept }) => {
  expect(mountPoints(mountinfo(...points), paths, trees)).toEqual(kept)
})
