import { expect, test } from 'vitest'
import { idleKeys } from '../../../src/policy/idle.ts'
import { parseAssignment } from '../../../src/policy/lines.ts'
import { settle } from '../../../src/policy/settings.ts'

test.each([
  { keys: 'mknod', says: [] },
  { keys: 'mknod=false sysinfo', says: [] },
  { keys: 'mount', says: ['mount does nothing without mount.allowed or mount.fuse'] },
  { keys: 'mount mount.allowed=ext4', says: [] },
  { keys: 'mount.fuse=ext4=fuse2fs', says: ['mount.fuse does nothing without mount=true'] },
  { keys: 'bpf', says: ['bpf does nothing without bpf.devices'] },
  { keys: 'bpf.devices', says: ['bpf.devices does nothing without bpf=true'] },
  { keys: 'bpf bpf.devices mknod.devices=c:10:200', says: ['mknod.devices does nothing without mknod=true'] },
])('idleKeys() of $keys', ({ keys, says }) => {
  expect(idleKeys(settle(keys.split(' ').map((key) => parseAssignment(key))))).toEqual(says)
})
