import { expect, test } from 'vitest'
import { ineffectiveKeys } from '../../../src/policy/ineffective.ts'
import { parseAssignment } from '../../../src/policy/key-value-lines.ts'
import { settle } from '../../../src/policy/settings.ts'

test.each([
  { keys: 'mknod', says: [] },
  { keys: 'mknod=false sysinfo', says: [] },
  { keys: 'mount', says: ['mount does nothing without mount.allowed or mount.fuse'] },
  { keys: 'mount mount.allowed=ext4', says: [] },
  { keys: 'mount.fuse=ext4=fuse2fs', says: ['mount.fuse does nothing without mount=true'] },
  { keys: 'rlimits', says: ['rlimits does nothing without rlimits.allowed'] },
  { keys: 'rlimits rlimits.allowed=nofile=4096', says: [] },
  { keys: 'setxattr.allowed=security.NTACL', says: ['setxattr.allowed does nothing without setxattr=true'] },
  { keys: 'setxattr setxattr.allowed=security.NTACL', says: [] },
  {
    keys: 'bpf',
    says: [
      'bpf does nothing without bpf.devices or bpf.delegate_cmds or bpf.delegate_maps or bpf.delegate_progs or bpf.delegate_attachs',
    ],
  },
  { keys: 'bpf bpf.delegate_progs=xdp', says: [] },
  { keys: 'bpf.delegate_cmds=prog_load', says: ['bpf.delegate_cmds does nothing without bpf=true'] },
  { keys: 'bpf.devices', says: ['bpf.devices does nothing without bpf=true'] },
  { keys: 'bpf bpf.devices mknod.devices=c:10:200', says: ['mknod.devices does nothing without mknod=true'] },
])('ineffectiveKeys() of $keys', ({ keys, says }) => {
  expect(ineffectiveKeys(settle(keys.split(' ').map((key) => parseAssignment(key))))).toEqual(says)
})
