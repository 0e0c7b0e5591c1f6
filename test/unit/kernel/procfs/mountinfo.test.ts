import fc from 'fast-check'
import { expect, test } from 'vitest'
import { findMount, parseMountinfo } from '../../../../src/kernel/procfs/mountinfo.ts'

/** As the kernel writes them: mangle() of linux/fs/proc_namespace.c. */
const mangle = (path: string): string =>
  path.replaceAll(/[ \t\n\\#]/g, (each) => `\\${each.charCodeAt(0).toString(8).padStart(3, '0')}`)

const line = (id: number, point: string, tags = ' shared:1'): string =>
  `${id} 1 8:1 ${mangle(point)} ${mangle(point)} rw,nosuid${tags} - ext4 ${mangle(point)} rw,x=1\n`
const mount = (id: number, point: string) => ({
  ...{ id, parent: 1, device: '8:1', root: point, point, options: ['rw', 'nosuid'] },
  ...{ type: 'ext4', superOptions: ['rw', 'x=1'] },
})

test.each([
  { what: 'octal escapes', point: '/a b\tc\nd\\e#f' },
  { what: 'an escape that was in the name', point: '/\\040' },
  { what: 'a separator', point: '/ - tmpfs none rw' },
  { what: 'a line of its own', point: '/x\n9 1 8:1 / / rw - tmpfs none rw' },
  { what: 'a carriage return', point: '/x\r9 1 8:1 / / rw' },
  { what: 'bytes that are no UTF-8', point: '/\xff\xc3' },
])('parseMountinfo() reads a path with $what', ({ point }) => {
  expect(parseMountinfo(line(22, point))).toEqual([mount(22, point)])
  expect(findMount(line(2, '/') + line(22, point), 22)).toEqual(mount(22, point))
})

test.each(['', ' shared:1', ' shared:1 master:2 propagate_from:3', ' unbindable'])(
  'parseMountinfo() passes over the optional fields "%s"',
  (tags) => {
    expect(parseMountinfo(line(22, '/a', tags))).toEqual([mount(22, '/a')])
  },
)

test('parseMountinfo() takes an empty source, and a last line without its end', () => {
  const [only] = parseMountinfo('22 1 0:40 / /a rw - tmpfs  rw,uid=5')
  expect(only).toMatchObject({ type: 'tmpfs', superOptions: ['rw', 'uid=5'] })
})

test.each([
  '',
  '\n',
  '22',
  '22 1 8:1 / /a rw',
  '22 1 8:1 / /a rw -',
  '22 1 8:1 / /a rw - ext4',
  '22 1 8:1 / /a rw - ext4 x',
])('parseMountinfo() and findMount() find no mount in %j', (text) => {
  expect(parseMountinfo(text)).toEqual([])
  expect(findMount(text, 22)).toBeUndefined()
})

test('findMount() takes no number that only begins alike', () => {
  expect(findMount(line(221, '/a') + line(22, '/b'), 22)).toEqual(mount(22, '/b'))
  expect(findMount(line(221, '/a'), 22)).toBeUndefined()
})

const path = fc.uint8Array({ maxLength: 30 }).map((bytes) => `/${Buffer.from(bytes).toString('latin1')}`)

test('parseMountinfo() gives back whatever directories a container mounts on', () => {
  fc.assert(
    fc.property(fc.array(path), (points) => {
      const text = points.map((point, id) => line(id, point)).join('')
      expect(parseMountinfo(text)).toEqual(points.map((point, id) => mount(id, point)))
    }),
  )
})
