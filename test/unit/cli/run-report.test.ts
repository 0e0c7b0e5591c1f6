import { expect, test } from 'vitest'
import type { Tid } from '../../../src/abi/brand.ts'
import { makedev } from '../../../src/abi/stat.ts'
import { syscallName } from '../../../src/abi/syscalls.ts'
import { packAttribute, packName } from '../../../src/calls/packed.ts'
import type { CallRecord } from '../../../src/calls/record.ts'
import { adviceOf } from '../../../src/cli/advice.ts'
import { RunObserver, type SeenCalls } from '../../../src/cli/run-report.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'

const X86_64 = 0xc000_003e
const I386 = 0x4000_0003
const POLICY = parsePolicy([
  ['mount', 'true'],
  ['mount.allowed', 'ext4,a_long_file_system'],
  ['mount.fuse', 'image=fuse2fs'],
])

const numberOf = (name: string, arch: number): number =>
  Array.from({ length: 1000 }, (_, nr) => nr).find((nr) => syscallName(arch, nr) === name)!

interface Made {
  readonly call: string
  readonly args?: readonly bigint[]
  readonly texts?: Readonly<Record<number, string>>
  readonly changes?: Partial<CallRecord>
  readonly arch?: number
}

/** What an observer makes of calls, of which each is like one that was done. */
const seen = (...calls: readonly Made[]): SeenCalls => seenUnder(POLICY, ...calls)
function seenUnder(policy: Policy, ...calls: readonly Made[]): SeenCalls {
  const observer = new RunObserver()
  for (const { call, args = [], texts = {}, changes, arch = X86_64 } of calls) {
    const record: CallRecord = {
      ...{ container: 1, serial: 1, nr: numberOf(call, arch), arch, tid: 7 as Tid, verdict: 'act', errno: 0 },
      ...{ reason: 'done', a: 0, b: 0, microseconds: 5, time: 0 },
      ...changes,
    }
    const bytes = Object.entries(texts).flatMap(([index, text]) => [Number(index), text.length, ...Buffer.from(text)])
    const all = Array.from({ length: 6 }, (_, index) => args[index] ?? 0n)
    observer.add(record, { args: all, texts: Uint8Array.from(bytes) }, policy)
  }
  return observer.seen
}
const usedBy = (...calls: readonly Made[]): readonly string[] =>
  seen(...calls).used.map(({ key, value, count }) => `${key}=${value} ${count}`)

test.each([
  { what: 'a block device', mode: 0o60660n, dev: makedev(7, 0), value: 'granted' },
  { what: 'a listed device', mode: 0o20666n, dev: makedev(10, 200), value: 'c:10:200' },
  { what: 'a device that is not listed', mode: 0o20666n, dev: makedev(10, 237), value: 'granted' },
])('$what that was made takes mknod.devices=$value', ({ mode, dev, value }) => {
  const policy = parsePolicy([
    ['mknod', 'true'],
    ['mknod.devices', 'c:10:200,granted'],
  ])
  const { used } = seenUnder(policy, { call: 'mknodat', args: [0n, 0n, mode, BigInt(dev)] })
  expect(used).toMatchObject([{ key: 'mknod' }, { key: 'mknod.devices', value }])
})

test.each([
  { call: 'setxattr', name: 'security.NTACL', keys: ['setxattr', 'setxattr.allowed=security.NTACL'] },
  { call: 'removexattrat', at: 3, name: 'trusted.a.b', keys: ['setxattr', 'setxattr.allowed=trusted.a.*'] },
  { call: 'getxattr', name: 'trusted.a.b', keys: ['setxattr', 'setxattr.allowed=trusted.a.*', 'setxattr.read'] },
  { call: 'fsetxattr', name: 'trusted.overlay.opaque', keys: ['setxattr'] },
])('$call of $name took $keys', ({ call, at = 1, name, keys }) => {
  const policy = parsePolicy([
    ['setxattr', 'true'],
    ['setxattr.allowed', 'security.NTACL,trusted.a.*'],
    ['setxattr.read', 'true'],
  ])
  const { used } = seenUnder(policy, { call, texts: { [at]: name } })
  expect(used.map(({ key, value }) => (value === 'true' ? key : `${key}=${value}`))).toEqual(keys)
})

test.each([
  { name: 'security.NTACL', wants: { key: 'setxattr.allowed', value: 'security.NTACL' } },
  { name: 'trusted.glusterfs.volume-id', wants: { key: 'setxattr.allowed', value: 'trusted.glusterfs.volume-id' } },
  { name: 'trusted.a,trusted.b', wants: undefined },
])('a refused setxattr of $name wants $wants', ({ name, wants }) => {
  const [a, b] = packAttribute('set', name)
  const changes = { verdict: 'continue', reason: 'attributeNotListed', a, b } as const
  expect(seen({ call: 'setxattr', texts: { 1: name }, changes }).refused).toMatchObject([{ wants }])
})

const TUN = BigInt(makedev(10, 200))
/** What is above the low half of a register is not the kernel's to see, of a call of 32 bits. */
const HIGH = 0xdead_beef_0000_0000n

test.each<Made & { readonly keys: readonly string[] }>([
  { call: 'mknod', args: [0n, 0o20666n, BigInt(makedev(1, 3))], keys: ['mknod=true 1'] },
  { call: 'mknod', args: [0n, 0o20666n, TUN], keys: ['mknod=true 1', 'mknod.devices=c:10:200 1'] },
  { call: 'mknodat', args: [0n, 0n, 0o20666n, TUN | HIGH], keys: ['mknod=true 1', 'mknod.devices=c:10:200 1'] },
  {
    call: 'mknodat',
    arch: I386,
    args: [0n, 0n, 0o20666n, TUN | HIGH],
    keys: ['mknod=true 1', 'mknod.devices=c:10:200 1'],
  },
  { call: 'bpf', keys: ['bpf=true 1', 'bpf.devices=true 1'] },
  { call: 'mount', texts: { 0: '/dev/x', 1: '/m', 2: 'ext4' }, keys: ['mount=true 1', 'mount.allowed=ext4 1'] },
  { call: 'mount', texts: { 2: 'image' }, keys: ['mount=true 1', 'mount.fuse=image=fuse2fs 1'] },
  { call: 'fsopen', texts: { 0: 'a_long_file_system' }, keys: ['mount=true 1', 'mount.allowed=a_long_file_system 1'] },
  { call: 'fsmount', keys: ['mount=true 1'] },
  { call: 'umount2', texts: { 0: '/m' }, keys: ['mount=true 1'] },
  {
    call: 'sched_setscheduler',
    changes: { a: 20 },
    keys: ['sched_setscheduler=true 1', 'sched_setscheduler.max_priority=20 1'],
  },
  { call: 'sched_setattr', keys: ['sched_setscheduler=true 1', 'sched_setscheduler.max_priority=1 1'] },
  { call: 'lsetxattr', keys: ['setxattr=true 1'] },
  ...['getxattr', 'flistxattr', 'removexattr'].map((call) => ({
    call,
    keys: ['setxattr=true 1', 'setxattr.read=true 1'],
  })),
  { call: 'sysinfo', keys: ['sysinfo=true 1'] },
  {
    call: 'mknod',
    changes: { verdict: 'continue', reason: 'observedAct' },
    keys: ['mknod=true 1', 'mknod.devices=c:0:0 1'],
  },
  { call: 'mknod', changes: { errno: 17, reason: 'kernelAnswered' }, keys: [] },
  // Without the key, it would be EPERM.
  {
    call: 'fremovexattr',
    changes: { errno: 61, reason: 'kernelAnswered' },
    keys: ['setxattr=true 1', 'setxattr.read=true 1'],
  },
  { call: 'mknod', changes: { verdict: 'gone', reason: 'gone' }, keys: [] },
])('$call $args $texts used $keys', ({ keys, ...call }) => {
  expect(usedBy(call)).toEqual(keys)
})

test('calls of a kind are counted, and a container that chooses numbers has no more than a thousand kinds', () => {
  expect(usedBy({ call: 'bpf' }, { call: 'bpf' })).toEqual(['bpf=true 2', 'bpf.devices=true 2'])
  const devices = Array.from(
    { length: 2000 },
    (_, at): Made => ({ call: 'mknod', args: [0n, 0n, BigInt(makedev(4, at))] }),
  )
  const { used, unnamed } = seen(...devices)
  expect({ used: used.length, unnamed }).toEqual({ used: 1000, unnamed: 1001 })
})

test('an advice has the highest number, whole lists in their order, and of what was given the manner alone', () => {
  const priority = (a: number): Made => ({ call: 'sched_setparam', changes: { a } })
  const [a, b] = packName('xfs')
  const report = seen(
    ...[priority(7), priority(30), priority(12)],
    ...[makedev(10, 229), makedev(10, 200)].map((dev): Made => ({ call: 'mknod', args: [0n, 0n, BigInt(dev)] })),
    { call: 'mount', changes: { verdict: 'continue', reason: 'fileSystemNotAllowed', a, b } },
    { call: 'sysinfo' },
  )
  const given = new Map([
    ['mknod.devices', 'c:10:200,c:10:229,c:10:232'],
    ['mount.shift', 'true'],
  ] as const)
  const { keys, used, unused, optional, refused } = adviceOf(report, given)
  expect(Object.fromEntries(keys)).toEqual({
    ...{ mknod: 'true', 'mknod.devices': 'c:10:200,c:10:229' },
    ...{ sched_setscheduler: 'true', 'sched_setscheduler.max_priority': '30' },
  })
  expect(used.filter(({ key }) => key.endsWith('max_priority'))).toMatchObject([{ value: '30', count: 3 }])
  expect(unused).toEqual(['mknod.devices=c:10:232'])
  expect(optional).toMatchObject([{ key: 'sysinfo' }])
  expect(refused).toMatchObject([{ wants: { key: 'mount.allowed', value: 'xfs' } }])
})
