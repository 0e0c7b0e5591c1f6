import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Membership, parseCgroups } from '../../../../src/kernel/cgroup.ts'

const write = (memberships: readonly Membership[]): string =>
  memberships.map(({ controllers, path }, index) => `${index}:${controllers.join(',')}:${path}\n`).join('')

test('parseCgroups() reads v1 and v2, with colons in a path', () => {
  expect(parseCgroups('12:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/machine/c:1/x\n')).toEqual([
    { controllers: ['cpu', 'cpuacct'], path: '/a:b' },
    { controllers: ['name=systemd'], path: '/' },
    { controllers: [], path: '/machine/c:1/x' },
  ])
})

test.each([
  { what: 'a carriage return and what looks like a line', path: '/c1/x\r0::/system.slice' },
  { what: 'the other ends of a line that JavaScript knows', path: '/c1/\u2028' + '0::/\u2029' },
  { what: 'bytes that are no UTF-8', path: '/c1/\xff\xfe' },
  { what: 'a group that is gone', path: '/c1 (deleted)' },
  { what: 'one outside of our namespace', path: '/../c1' },
  { what: 'blanks', path: '/ ' },
])('parseCgroups() takes as a path: $what', ({ path }) => {
  expect(parseCgroups(`4:memory:/m\n0::${path}\n`)).toEqual([
    { controllers: ['memory'], path: '/m' },
    { controllers: [], path },
  ])
})

test('parseCgroups() gives nothing where there is nothing', () => {
  expect(parseCgroups('')).toEqual([])
})

test.each([
  '0::/a',
  '4:memory:/m\n0::/containers/c',
  '0:\n',
  '\n',
  '0::a\n',
  '0::\n',
  'x::/a\n',
  ' 0::/\n',
  '4:memory:/m\n\n',
])('parseCgroups() refuses %j', (text) => {
  expect(() => parseCgroups(text)).toThrow(RangeError)
})

const name = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .map((bytes) => Buffer.from(bytes).toString('latin1').replaceAll(/[\n/]/g, ':'))
const membership = fc.record({
  controllers: fc.array(fc.constantFrom('cpu', 'memory', 'devices', 'name=x'), { maxLength: 3 }),
  path: fc.array(name, { maxLength: 5 }).map((names) => `/${names.join('/')}`),
})

test('parseCgroups() gives back whatever groups a container has made', () => {
  fc.assert(
    fc.property(fc.array(membership), (groups) => {
      expect(parseCgroups(write(groups))).toEqual(groups)
    }),
  )
})
