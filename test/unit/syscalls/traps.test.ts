import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { holds } from '../../../src/calls/syscall.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { handlers, rulesFor, untrapped } from '../../../src/syscalls/index.ts'

const ON = parsePolicy([
  ['mknod', 'true'],
  ['setxattr', 'true'],
  ['sysinfo', 'true'],
  ['sched_setscheduler', 'true'],
  ['rlimits', 'true'],
  ['rlimits.allowed', 'nofile=4096'],
  ['bpf', 'true'],
  ['bpf.devices', 'true'],
  ['mount', 'true'],
  ['mount.allowed', 'ext4'],
])

/** Is a call with these registers handed to us? */
const trapped = (policy: Policy, name: string, registers: Readonly<Record<number, bigint>>): boolean =>
  rulesFor(policy).some(
    (rule) =>
      rule.name === name && (rule.when ?? []).every((condition) => holds(condition, Object.assign([], registers))),
  )

const TOKENS = parsePolicy([
  ['bpf', 'true'],
  ['bpf.delegate_maps', 'hash'],
])

const GARBAGE = 0xdead_beef_0000_0000n

describe('what is trapped', () => {
  test.each([
    { call: 'mknod', what: 'a character device', registers: { 1: 0o020666n }, is: true },
    {
      call: 'mknod',
      what: 'a character device and garbage',
      registers: { 1: GARBAGE | 0xffff_0000n | 0o020666n },
      is: true,
    },
    { call: 'mknod', what: 'a block device', registers: { 1: 0o060666n }, is: true },
    { call: 'mknod', what: 'a FIFO', registers: { 1: 0o010666n }, is: false },
    { call: 'mknod', what: 'a FIFO', registers: { 1: 0o010666n }, is: false },
    { call: 'mknod', what: 'a file without a type', registers: { 1: 0o666n }, is: false },
    { call: 'mknod', what: 'a type that is none', registers: { 1: 0o030666n }, is: false },
    { call: 'mknodat', what: 'a character device', registers: { 2: 0o020000n }, is: true },
    { call: 'mknodat', what: 'a mode in another register', registers: { 1: 0o020000n }, is: false },
    { call: 'setxattr', what: 'one byte', registers: { 3: 1n }, is: true },
    { call: 'lsetxattr', what: 'one byte', registers: { 3: 1n }, is: true },
    { call: 'fsetxattr', what: 'one byte', registers: { 3: 1n }, is: true },
    { call: 'setxattr', what: 'no byte', registers: { 3: 0n }, is: false },
    { call: 'setxattr', what: 'a size beyond 32 bits', registers: { 3: 0x1_0000_0001n }, is: false },
    { call: 'setxattrat', what: 'anything', registers: {}, is: true },
    { call: 'getxattr', what: 'anything, without setxattr.read', registers: {}, is: false },
    { call: 'listxattr', what: 'anything, without setxattr.read', registers: {}, is: false },
    { call: 'removexattr', what: 'anything, without setxattr.read', registers: {}, is: false },
    { call: 'sysinfo', what: 'anything', registers: {}, is: true },
    { call: 'sched_setscheduler', what: 'SCHED_OTHER', registers: {}, is: true },
    { call: 'sched_setparam', what: 'anything', registers: {}, is: true },
    { call: 'sched_setattr', what: 'anything', registers: {}, is: true },
    { call: 'sched_setaffinity', what: 'anything', registers: {}, is: false },
    { call: 'setpriority', what: 'anything, without min_nice', registers: {}, is: false },
    { call: 'ioprio_set', what: 'anything, without ioprio', registers: { 0: 1n }, is: false },
    { call: 'setrlimit', what: 'anything', registers: {}, is: true },
    { call: 'prlimit64', what: 'reading', registers: { 3: 4096n }, is: false },
    { call: 'prlimit64', what: 'setting', registers: { 2: 4096n }, is: true },
    { call: 'prlimit64', what: 'setting, from a high address', registers: { 2: GARBAGE }, is: true },
    { call: 'bpf', what: 'BPF_PROG_LOAD', registers: { 0: 5n }, is: true },
    { call: 'bpf', what: 'BPF_PROG_LOAD and garbage', registers: { 0: GARBAGE | 5n }, is: true },
    { call: 'bpf', what: 'BPF_LINK_DETACH', registers: { 0: 34n }, is: true },
    { call: 'bpf', what: 'BPF_MAP_CREATE', registers: { 0: 0n }, is: true },
    { call: 'bpf', what: 'BPF_TOKEN_CREATE', registers: { 0: 36n }, is: true },
    { call: 'bpf', what: 'a negative command', registers: { 0: 0xffff_ffffn }, is: false },
    { call: 'fsopen', what: 'anything', registers: {}, is: true },
    { call: 'fsconfig', what: 'anything', registers: {}, is: true },
    { call: 'fsmount', what: 'anything', registers: {}, is: true },
    { call: 'move_mount', what: 'a descriptor', registers: { 4: 4n }, is: true },
    { call: 'move_mount', what: 'a descriptor, beneath, and garbage', registers: { 4: GARBAGE | 0x204n }, is: true },
    { call: 'move_mount', what: 'a path', registers: { 4: 0x40n }, is: false },
    { call: 'mount_setattr', what: 'a descriptor', registers: { 2: 0x1000n }, is: true },
    { call: 'mount_setattr', what: 'a path', registers: { 2: 0x8000n }, is: false },
    { call: 'fspick', what: 'anything', registers: {}, is: true },
    { call: 'umount2', what: 'MNT_FORCE', registers: { 1: GARBAGE | 0x9n }, is: true },
    { call: 'umount2', what: 'MNT_DETACH', registers: { 1: 0x2n }, is: false },
    { call: 'open_tree', what: 'anything', registers: {}, is: false },
  ])('$call of $what: $is', ({ call, registers, is }) => expect(trapped(ON, call, registers)).toBe(is))
})

test('setxattr.read traps all calls that read and remove, on whatever they name the inode', () => {
  const policy = parsePolicy([
    ['setxattr', 'true'],
    ['setxattr.read', 'true'],
  ])
  const reading = ['get', 'list', 'remove'].flatMap((verb) =>
    ['', 'l', 'f'].map((prefix) => `${prefix}${verb}xattr`).concat(`${verb}xattrat`),
  )
  expect(reading.filter((call) => !trapped(policy, call, {}))).toEqual([])
  expect(rulesFor(policy)).toHaveLength(reading.length + 4)
})

test('setxattr.allowed traps all calls that set and remove, of any size, and no call that reads', () => {
  const policy = parsePolicy([
    ['setxattr', 'true'],
    ['setxattr.allowed', 'security.NTACL'],
  ])
  const all = ['set', 'remove'].flatMap((verb) =>
    ['', 'l', 'f'].map((prefix) => `${prefix}${verb}xattr`).concat(`${verb}xattrat`),
  )
  expect(rulesFor(policy)).toHaveLength(all.length)
  expect(all.filter((call) => !trapped(policy, call, { 3: 300n }))).toEqual([])
  expect(untrapped(policy, 'setxattr.allowed', new Set(['setxattr', 'lsetxattr', 'fsetxattr', 'setxattrat']))).toEqual(
    all.slice(4),
  )
})

describe('mount(2)', () => {
  const [REMOUNT, BIND, MOVE, REC, UNBINDABLE, PRIVATE, SLAVE, SHARED] = [
    0x20n,
    0x1000n,
    0x2000n,
    0x4000n,
    0x20000n,
    0x40000n,
    0x80000n,
    0x100000n,
  ]
  const MAGIC = 0xc0ed_0000n
  const [NOATIME, NODIRATIME] = [0x400n, 0x800n]

  test.each([
    ['no flags', 0n, true],
    ['ro, nosuid, nodev, noexec, noatime, nosymfollow', 0x50fn, true],
    ['relatime', 0x200000n, true],
    ['the magic of the 1990s', MAGIC, true],
    ['the magic and options', MAGIC | 0xfn, true],
    ['the magic and garbage', GARBAGE | MAGIC, true],
    ['a sign-extended magic', 0xffff_ffff_c0ed_0000n, true],
    ['the magic and bind', MAGIC | BIND, false],
    ['the magic and remount', MAGIC | REMOUNT, true],
    ['the magic and move', MAGIC | MOVE, false],
    ['remount', REMOUNT, true],
    ['remount, bind, ro', REMOUNT | BIND | 1n, false],
    ['remount, bind, noatime', REMOUNT | BIND | NOATIME, true],
    ['remount, bind, nodiratime', REMOUNT | BIND | NODIRATIME, true],
    ['rbind', BIND | REC, false],
    ['move', MOVE, false],
    ['make-private', PRIVATE, false],
    ['make-rprivate', PRIVATE | REC, false],
    ['make-rslave', SLAVE | REC, false],
    ['make-shared', SHARED, false],
    ['make-unbindable', UNBINDABLE, false],
    ['private and slave, which only the magic holds together with more', PRIVATE | SLAVE, false],
    ['a broken magic', MAGIC | SHARED, false],
  ] as const)('with %s is trapped: %s', (_, flags, is) => expect(trapped(ON, 'mount', { 3: flags })).toBe(is))

  /** fs/namespace.c path_mount(), in its order. */
  function makesSuperblock(flags: bigint): boolean {
    const left = (flags & 0xffff_0000n) === MAGIC ? flags & 0xffffn : flags
    return (left & (REMOUNT | BIND | SHARED | PRIVATE | SLAVE | UNBINDABLE | MOVE)) === 0n
  }

  test('is trapped exactly where the kernel goes on to do_new_mount(), is told to do_remount(), or to set access times', () => {
    const remounts = (value: bigint): boolean =>
      (value & (REMOUNT | BIND)) === REMOUNT ||
      ((value & BIND) !== 0n && (value & REMOUNT) !== 0n && (value & (NOATIME | NODIRATIME)) !== 0n)
    const bit = fc.integer({ min: 0, max: 63 }).map((n) => 1n << BigInt(n))
    const few = fc.array(bit, { maxLength: 6 }).map((bits) => bits.reduce((sum, one) => sum | one, 0n))
    const flags = fc.oneof(
      few,
      few.map((f) => f | MAGIC),
      few.map((f) => f ^ MAGIC),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    )
    fc.assert(
      fc.property(flags, (value) => {
        expect(trapped(ON, 'mount', { 3: value })).toBe(makesSuperblock(value) || remounts(value))
      }),
      { numRuns: 5000 },
    )
  })
})

describe('what a policy leaves alone is not trapped', () => {
  test.each([
    ['nothing', []],
    ['bpf without bpf.devices', [['bpf', 'true']]],
    ['bpf.devices without bpf', [['bpf.devices', 'true']]],
    ['mount without a file system', [['mount', 'true']]],
    ['file systems without mount', [['mount.fuse', 'ext4=fuse2fs']]],
    ['devices without mknod', [['mknod.devices', 'c:10:200']]],
    ['setxattr.read without setxattr', [['setxattr.read', 'true']]],
  ] as [string, [string, string][]][])('%s', (_, entries) => expect(rulesFor(parsePolicy(entries))).toEqual([]))

  test('each call that is trapped has a handler, and each handler is for a call that can be trapped', () => {
    const schedSetscheduler = { maxPriority: 1, minNice: -1, ioprio: true }
    const all = { ...ON, setxattr: { allowed: new Set<string>(), read: true }, schedSetscheduler }
    const trapped = new Set(rulesFor(all).map(({ name }) => name))
    expect([...trapped].sort()).toEqual(handlers.map(({ name }) => name).sort())
  })
})

test.each([
  { key: 'mknod', traps: ['mknod', 'mknodat'], missing: [] },
  { key: 'mknod', traps: ['mknod'], missing: ['mknodat'] },
  { key: 'sysinfo', traps: [], missing: ['sysinfo'] },
  { key: 'bpf', traps: ['bpf'], missing: [] },
  // The policy does not serve it, or it traps nothing by itself.
  { key: 'setxattr.read', traps: [], missing: [] },
  { key: 'mount.allowed', traps: [], missing: [] },
] as const)('untrapped() of $key where a filter traps $traps is $missing', ({ key, traps, missing }) => {
  expect(untrapped(ON, key, new Set(traps))).toEqual(missing)
})

describe('what BPF tokens trap', () => {
  test.each([
    { call: 'fsconfig', what: 'FSCONFIG_SET_STRING', registers: { 1: 1n }, is: true },
    {
      call: 'fsconfig',
      what: 'FSCONFIG_SET_STRING and garbage',
      registers: { 1: (GARBAGE & ~0xffff_ffffn) | 1n },
      is: true,
    },
    { call: 'fsconfig', what: 'FSCONFIG_CMD_CREATE', registers: { 1: 6n }, is: true },
    ...[0n, 2n, 3n, 4n, 5n, 7n, 8n].map((command) => ({
      ...{ call: 'fsconfig', what: `command ${command}`, registers: { 1: command }, is: false },
    })),
    ...[0n, 5n, 36n].map((command) => ({
      ...{ call: 'bpf', what: `command ${command}`, registers: { 0: command }, is: true },
    })),
    { call: 'bpf', what: 'command 8', registers: { 0: 8n }, is: false },
    ...['fsopen', 'fsmount', 'fspick', 'move_mount', 'mount'].map((call) => ({
      ...{ call, what: 'anything', registers: { 0: 5n }, is: false },
    })),
  ])('$call with $what: $is', ({ call, registers, is }) => expect(trapped(TOKENS, call, registers)).toBe(is))

  test('nothing without the keys', () =>
    expect(
      rulesFor(
        parsePolicy([
          ['bpf', 'true'],
          ['bpf.devices', 'true'],
        ]),
      ).map(({ name }) => name),
    ).not.toContain('fsconfig'))
})
