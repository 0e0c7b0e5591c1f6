import { expect, test } from 'vitest'
import { asOperand, fuseOptions } from '../../../src/syscalls/mount-fuse.ts'

test.each([
  { flags: 0n, data: undefined, options: 'allow_other,default_permissions' },
  { flags: 0x1n, data: '', options: 'ro,allow_other,default_permissions' },
  {
    flags: 0xcdfn,
    data: undefined,
    options: 'ro,nosuid,nodev,noexec,sync,dirsync,noatime,nodiratime,allow_other,default_permissions',
  },
  // Neither MS_SILENT nor MS_RELATIME mean anything to a program.
  { flags: 0x208000n, data: 'a,b=c', options: 'allow_other,default_permissions,a,b=c' },
])('fuseOptions($flags, $data)', ({ flags, data, options }) => {
  expect(fuseOptions(flags, data)).toBe(options)
})

test.each([
  ['/dev/sda', '/dev/sda'],
  ['-o', './-o'],
  ['', ''],
])('asOperand(%j)', (path, operand) => {
  expect(asOperand(path)).toBe(operand)
})
