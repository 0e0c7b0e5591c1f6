import { expect, test } from 'vitest'
import { cgroupMounts, deviceGroups, groupPaths } from '../../../src/mounter/join-cgroups.ts'

const HYBRID = `24 22 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw
30 24 0:25 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
31 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw
33 24 0:27 /some/where /mnt/part rw,relatime - cgroup2 cgroup2 rw
`

test('the hierarchies that can have device rules, where they are mounted whole', () => {
  expect([...cgroupMounts(HYBRID)]).toEqual([
    ['devices', '/sys/fs/cgroup/devices'],
    ['', '/sys/fs/cgroup/unified'],
  ])
})

test('the groups of a process in them; a path may hold a colon', () => {
  const cgroup = '5:devices:/a\n4:memory:/b\n0::/machine/c:1\n'
  expect(groupPaths(cgroup, cgroupMounts(HYBRID))).toEqual([
    '/sys/fs/cgroup/devices/a',
    '/sys/fs/cgroup/unified/machine/c:1',
  ])
  expect(groupPaths('0::/x\n', new Map([['', '/sys/fs/cgroup']]))).toEqual(['/sys/fs/cgroup/x'])
})

test.each(['/..', '/../x', '/a/../..'])(
  'a task in %s is outside of our cgroup namespace, and is not joined',
  (path) => {
    const mounts = new Map([['', '/sys/fs/cgroup']])
    expect(() => deviceGroups(`0::${path}\n`, mounts)).toThrow(/outside of our cgroup namespace/)
    expect(deviceGroups('0::/a..\n', mounts)).toEqual(['/sys/fs/cgroup/a..'])
  },
)
