import { expect, test } from 'vitest'
import { parseMountinfo } from '../../../../src/kernel/procfs/mountinfo.ts'
import { hostFileSystems } from '../../../../src/runtimes/launch/host-tree.ts'

const line = (id: number, parent: number, point: string, type: string): string =>
  `${id} ${parent} 8:1 / ${point} rw,nosuid shared:1 - ${type} /dev/x rw`

test('parseMountinfo() reads octal escapes and the optional fields', () => {
  expect(parseMountinfo(`${line(22, 1, String.raw`/a\040b\134c`, 'ext4')}\n`)).toEqual([
    {
      ...{ id: 22, parent: 1, device: '8:1', point: '/a b\\c', root: '/' },
      ...{ options: ['rw', 'nosuid'], type: 'ext4', superOptions: ['rw'] },
    },
  ])
})

test.each([
  { what: 'the root only, whatever it is', lines: [line(1, 0, '/', 'nfs4')], points: ['/'] },
  {
    what: 'real file systems, not pseudo ones',
    lines: [line(1, 0, '/', 'ext4'), line(2, 1, '/a', 'proc'), line(3, 1, '/b', 'xfs')],
    points: ['/', '/b'],
  },
  {
    what: 'nothing that a server answers for',
    lines: [line(1, 0, '/', 'ext4'), line(2, 1, '/a', 'fuse.sshfs'), line(3, 1, '/b', 'nfs4')],
    points: ['/'],
  },
  {
    what: 'nothing that the container has fresh',
    lines: [
      line(1, 0, '/', 'ext4'),
      line(2, 1, '/tmp', 'tmpfs'),
      line(3, 1, '/run/x', 'ext4'),
      line(4, 1, '/runs', 'ext4'),
    ],
    points: ['/', '/runs'],
  },
  {
    what: 'parents before children',
    lines: [line(1, 0, '/', 'ext4'), line(3, 2, '/a/b', 'ext4'), line(2, 1, '/a', 'ext4')],
    points: ['/', '/a', '/a/b'],
  },
  {
    what: 'the upper one of two at a place',
    lines: [line(1, 0, '/', 'ext4'), line(2, 1, '/a', 'ext4'), line(3, 2, '/a', 'xfs')],
    points: ['/', '/a'],
  },
  {
    what: 'nothing below a later mount over it',
    lines: [line(1, 0, '/', 'ext4'), line(2, 1, '/a/b', 'ext4'), line(3, 1, '/a', 'ext4')],
    points: ['/', '/a'],
  },
])('hostFileSystems() gives $what', ({ lines, points }) => {
  expect(hostFileSystems(parseMountinfo(lines.join('\n'))).map(({ point }) => point)).toEqual(points)
})
