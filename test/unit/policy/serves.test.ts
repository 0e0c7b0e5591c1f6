import { expect, test } from 'vitest'
import { parseAssignment } from '../../../src/policy/key-value-lines.ts'
import { keyThatIsOff } from '../../../src/policy/policy.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'

test.each([
  { keys: '', of: 'mknod', off: 'mknod' },
  { keys: '', of: 'setxattr.read', off: 'setxattr' },
  { keys: 'setxattr', of: 'setxattr.read', off: 'setxattr.read' },
  { keys: 'setxattr.read', of: 'setxattr.read', off: 'setxattr' },
  { keys: '', of: 'bpf', off: 'bpf' },
  { keys: 'bpf', of: 'bpf', off: 'bpf.devices' },
  { keys: 'mount', of: 'mknod', off: 'mknod' },
] as const)('keyThatIsOff() of $of under "$keys" is $off', ({ keys, of, off }) => {
  const entries = keys === '' ? [] : keys.split(' ').map((key) => parseAssignment(key))
  expect(keyThatIsOff(parsePolicy(entries), of)).toBe(off)
})
