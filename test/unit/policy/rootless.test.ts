import { expect, test } from 'vitest'
import type { KeyValueLine } from '../../../src/policy/key-value-lines.ts'
import { forUser, mustServeUser } from '../../../src/policy/policy.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'

const P = 'security.syscalls.intercept.'
const on = (...keys: readonly string[]): readonly KeyValueLine[] => keys.map((key) => [key, 'true'])

test('forUser() leaves sysinfo and FUSE mounts, and names every other key that is on', () => {
  const all = on('mknod', 'bpf', 'bpf.devices', 'mount', 'sched_setscheduler', 'setxattr', 'sysinfo')
  const mounts: readonly KeyValueLine[] = [
    ['mount.fuse', 'ext4=fuse2fs'],
    ['mount.allowed', 'xfs'],
  ]
  const { policy, withheld } = forUser(parsePolicy([...all, ...mounts]))
  expect(Object.keys(policy).sort()).toEqual(['mount', 'sysinfo'])
  expect(policy.mount).toMatchObject({ allowed: new Set(), fuse: new Map([['ext4', 'fuse2fs']]) })
  expect(withheld).toEqual(
    ['mknod', 'bpf', 'mount.allowed', 'sched_setscheduler', 'setxattr'].map((key) => `${P}${key}`),
  )
})

test('forUser() leaves nothing of mounts by the kernel', () => {
  const { policy, withheld } = forUser(parsePolicy([...on('mount'), ['mount.allowed', 'xfs']]))
  expect(policy).toEqual({})
  expect(withheld).toEqual([`${P}mount.allowed`])
})

test('mustServeUser() refuses what only root of the host may do', () => {
  expect(() => mustServeUser(parsePolicy(on('sysinfo')))).not.toThrow()
  expect(() => mustServeUser(parsePolicy(on('sysinfo', 'mknod', 'setxattr')))).toThrow(
    /intercept\.mknod and security\.syscalls\.intercept\.setxattr cannot be served for a user; the kernel lets only root/,
  )
})
