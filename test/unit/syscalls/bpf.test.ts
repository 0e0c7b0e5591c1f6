import { describe, expect, test } from 'vitest'
import { BPF } from '../../../src/abi/bpf.ts'
import type { Cap } from '../../../src/abi/credentials.ts'
import { errnos } from '../../../src/abi/errno.ts'
import { NOTIF, SECCOMP_NOTIF_SIZE } from '../../../src/abi/seccomp.ts'
import { architectures } from '../../../src/abi/syscalls.ts'
import type { Caller, Registers } from '../../../src/calls/caller.ts'
import type { DevicePrograms, Group, OwnProgram } from '../../../src/calls/device-programs.ts'
import { ContinueError, judgedBy, type Verdict } from '../../../src/calls/verdict.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { bpf } from '../../../src/syscalls/bpf.ts'
import { needsJudge } from '../../../src/syscalls/bpf-token.ts'
import { handle, registers, standIn } from '../../support/caller-stand-in.ts'

const policy = parsePolicy([
  ['bpf', 'true'],
  ['bpf.devices', 'true'],
])
const ATTR = 0x1000
const INSTRUCTIONS = 0x2000
const LICENCE = 0x3000
const GARBAGE = 0xdead_beef_0000_0000n
const program: OwnProgram = { id: 7, loaded: 70n }
const group: Group = { group: handle(40), above: [handle(41)] }
const RETURN_1 = Uint8Array.of(0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0)

function attr(size: number, words: Readonly<Record<number, number>>): Uint8Array {
  const view = new DataView(new ArrayBuffer(size))
  for (const [at, value] of Object.entries(words)) view.setUint32(Number(at), value, true)
  return new Uint8Array(view.buffer)
}

/** Everything is allowed and there. */
const programs = (changes: Partial<DevicePrograms> = {}): DevicePrograms => ({
  loading: (_, load) => load(),
  barred: undefined,
  group: () => group,
  named: () => program,
  numbered: () => program,
  attached: () => ({ flags: 2, ids: [7], revision: 0n }),
  loosens: () => false,
  open: () => {
    throw new Error('Nothing is opened to decide')
  },
  standIn: () => undefined,
  countLink: () => true,
  link: () => ({ id: 50, group: 1n }),
  openLink: () => {
    throw new Error('Nothing is opened to decide')
  },
  ...changes,
})

function decide(
  command: number,
  bytes: Uint8Array,
  changes: Partial<DevicePrograms> = {},
  more: Partial<Caller> = {},
  by: Policy = policy,
): Verdict {
  const memory = new Map([
    [BigInt(ATTR), bytes],
    [BigInt(INSTRUCTIONS), RETURN_1],
    [BigInt(LICENCE), Buffer.from('GPL\0'.padEnd(127, 'x'))],
  ])
  const caller = standIn({
    bytes(at, length) {
      const found = memory.get(at)
      if (!found) throw new ContinueError('unreadable')
      return found.subarray(0, length)
    },
    ...more,
  })
  Object.defineProperty(caller, 'devicePrograms', { value: programs(changes) })
  const args = registers(BigInt(command), BigInt(ATTR), BigInt(bytes.length))
  return bpf.screen(args, by) ?? bpf.decide(bpf.decode(args, caller, by), caller, by)
}

const loading = (words: Readonly<Record<number, number>> = {}, size = 144): Uint8Array =>
  attr(size, { 0: 15, 4: 2, 8: INSTRUCTIONS, 16: LICENCE, ...words })
const attaching = (words: Readonly<Record<number, number>> = {}): Uint8Array =>
  attr(32, { 0: 3, 4: 4, 8: 6, 12: 2, ...words })

/** What the registers alone say: the commands of tokens wait for a look at the caller, but for no look at its memory. */
const byRegisters = (args: Registers, by = policy): string | undefined => {
  const verdict = bpf.screen(args, by)
  if (verdict) return verdict.why.code
  const request = bpf.decode(args, standIn({ bytes: () => new Uint8Array(144) }), by)
  return 'left' in request ? bpf.decide(request, standIn(), by).why.code : undefined
}

describe('bpf decides by the registers alone', () => {
  test.each([
    { what: 'a command of another kind', command: 1, size: 32, reason: 'bpfCommand' },
    { what: 'a map', command: 0, size: 32, reason: 'bpfMap' },
    { what: 'an argument beyond a page', command: BPF.PROG_LOAD, size: 4097, reason: 'bpfUnknownMember' },
    { what: 'a load', command: BPF.PROG_LOAD, size: 144, reason: undefined },
  ])('$what: $reason', ({ command, size, reason }) => {
    for (const high of [0n, GARBAGE]) {
      const args = registers(high | BigInt(command), 0n, high | BigInt(size))
      expect(byRegisters(args)).toBe(reason)
    }
  })

  test.each([{}, parsePolicy([['bpf', 'true']])])('without both keys nothing is served', (without) => {
    for (const command of [5n, 8n]) expect(byRegisters(registers(command, 0n, 144n), without)).toBe('keyOff')
  })
})

describe('bpf.decide()', () => {
  test.each<{ what: string; command: number; bytes: Uint8Array; changes?: Partial<DevicePrograms>; verdict: object }>([
    {
      what: 'a load',
      command: 5,
      bytes: loading(),
      verdict: { is: 'act', act: { verb: 'loadProgram', logSizeAt: 0x108cn } },
    },
    {
      what: 'a load before the size of a log',
      command: 5,
      bytes: loading({}, 48),
      verdict: { is: 'act', act: { verb: 'loadProgram' } },
    },
    {
      what: 'a program of another type',
      command: 5,
      bytes: loading({ 0: 1 }),
      verdict: { is: 'continue', why: { code: 'bpfProgramType', a: 1 } },
    },
    {
      what: 'the probe for networks that is not known',
      command: 5,
      bytes: loading({ 0: 8 }),
      verdict: { is: 'continue', why: { code: 'bpfProgramType', a: 8 } },
    },
    {
      what: 'BTF',
      command: 5,
      bytes: loading({ 72: 3 }),
      verdict: { is: 'errno', errno: errnos.EINVAL, why: { code: 'bpfMember', a: 72 } },
    },
    {
      what: 'what nobody knows',
      command: 5,
      bytes: loading({ 168: 3 }, 200),
      verdict: { is: 'continue', why: { code: 'bpfUnknownMember', a: 168 } },
    },
    {
      what: 'flags',
      command: 5,
      bytes: loading({ 44: 1 << 16 }),
      verdict: { is: 'errno', errno: errnos.EINVAL, why: { code: 'bpfFlags' } },
    },
    {
      what: 'many instructions',
      command: 5,
      bytes: loading({ 4: 4097 }),
      verdict: { is: 'errno', errno: errnos.E2BIG, why: { code: 'bpfTooLong', a: 4097 } },
    },
    {
      what: 'an attachment',
      command: 8,
      bytes: attaching(),
      verdict: { is: 'act', act: { verb: 'attachProgram', program, flags: 2, ...group } },
    },
    {
      what: 'a replacement',
      command: 8,
      bytes: attaching({ 12: 6, 16: 9 }),
      verdict: { is: 'act', act: { verb: 'attachProgram', replace: program } },
    },
    {
      what: 'another attach type',
      command: 8,
      bytes: attaching({ 8: 0 }),
      verdict: { is: 'continue', why: { code: 'bpfAttachType', a: 0 } },
    },
    {
      what: 'a descriptor that is closed',
      command: 8,
      bytes: attaching(),
      changes: { named: () => 'notOpen' },
      verdict: { is: 'errno', errno: errnos.EBADF },
    },
    {
      what: 'the program of others',
      command: 8,
      bytes: attaching(),
      changes: { named: () => 'notOurs' },
      verdict: { is: 'errno', errno: errnos.EPERM },
    },
    {
      what: 'the own cgroup',
      command: 8,
      bytes: attaching(),
      changes: { group: () => 'ownCgroup' },
      verdict: { is: 'errno', errno: errnos.EPERM, why: { code: 'ownCgroup' } },
    },
    {
      what: 'no cgroup',
      command: 8,
      bytes: attaching(),
      changes: { group: () => 'notCgroup' },
      verdict: { is: 'errno', errno: errnos.EBADF },
    },
    {
      what: 'below a loose one',
      command: 8,
      bytes: attaching(),
      changes: { loosens: () => true },
      verdict: { is: 'errno', errno: errnos.EPERM, why: { code: 'loosens' } },
    },
    {
      what: 'in the place of others',
      command: 8,
      bytes: attaching({ 12: 0 }),
      changes: { numbered: () => undefined },
      verdict: { is: 'errno', errno: errnos.EPERM, why: { code: 'notOurs' } },
    },
    {
      what: 'a detachment',
      command: 9,
      bytes: attr(12, { 0: 3, 4: 4, 8: 6 }),
      verdict: { is: 'act', act: { verb: 'detachProgram', program } },
    },
    {
      what: 'of what is not there, where nothing is',
      command: 9,
      bytes: attr(12, { 8: 6 }),
      changes: { attached: () => ({ flags: 0, ids: [], revision: 0n }), named: () => 'notOurs' },
      verdict: { is: 'errno', errno: errnos.ENOENT, why: { code: 'notAttached' } },
    },
    {
      what: 'of a descriptor that is closed',
      command: 9,
      bytes: attr(12, { 8: 6 }),
      changes: { named: () => 'notOpen' },
      verdict: { is: 'errno', errno: errnos.EINVAL, why: { code: 'notOpen' } },
    },
    {
      what: 'of the only program, of others',
      command: 9,
      bytes: attr(12, { 8: 6 }),
      changes: { attached: () => ({ flags: 1, ids: [8], revision: 0n }), numbered: () => undefined },
      verdict: { is: 'errno', errno: errnos.EPERM, why: { code: 'notOurs' } },
    },
    {
      what: 'a list',
      command: 16,
      bytes: attr(64, { 0: 3, 4: 6, 24: 9 }),
      verdict: { is: 'act', act: { verb: 'listPrograms', room: 9, revisionAt: 0x1038n } },
    },
    {
      what: 'a list with those above',
      command: 16,
      bytes: attr(32, { 0: 3, 4: 6, 8: 1 }),
      verdict: { is: 'errno', errno: errnos.EPERM },
    },
    {
      what: 'a list with a flag that there is not',
      command: 16,
      bytes: attr(32, { 0: 3, 4: 6, 8: 3 }),
      verdict: { is: 'errno', errno: errnos.EINVAL, why: { code: 'bpfFlags', a: 3 } },
    },
    {
      what: 'a number',
      command: 13,
      bytes: attr(4, { 0: 7 }),
      verdict: { is: 'act', act: { verb: 'openProgram', program } },
    },
    {
      what: 'a number of others',
      command: 13,
      bytes: attr(4, { 0: 7 }),
      changes: { numbered: () => undefined },
      verdict: { is: 'continue', why: { code: 'notOurs' } },
    },
    {
      what: 'a description',
      command: 15,
      bytes: attr(16, { 0: 4, 4: 80, 8: 0x9000 }),
      verdict: { is: 'act', act: { verb: 'describeProgram', length: 80, infoAt: 0x9000n } },
    },
    {
      what: 'a description of something else',
      command: 15,
      bytes: attr(16, { 0: 4 }),
      changes: { named: () => 'notOurs' },
      verdict: { is: 'continue' },
    },
    { what: 'a link', command: 28, bytes: attr(16, { 8: 6 }), verdict: { is: 'act', act: { verb: 'linkProgram' } } },
    {
      what: 'another program for a link',
      command: 29,
      bytes: attr(16, { 8: 4, 12: 3 }),
      verdict: { is: 'act', act: { verb: 'updateLink', old: program } },
    },
    {
      what: 'another program for a link, in the place of one that nobody asks for',
      command: 29,
      bytes: attr(16, { 12: 3 }),
      verdict: { is: 'errno', errno: errnos.EINVAL, why: { code: 'bpfOldProgram' } },
    },
    {
      what: 'the end of a link',
      command: 34,
      bytes: attr(4, { 0: 3 }),
      verdict: { is: 'act', act: { verb: 'detachLink' } },
    },
    {
      what: 'the end of a link of others',
      command: 34,
      bytes: attr(4, { 0: 3 }),
      changes: { link: () => undefined },
      verdict: { is: 'continue' },
    },
    {
      what: 'a cgroup that is shared',
      command: 5,
      bytes: loading(),
      changes: { barred: 'sharedCgroup' },
      verdict: { is: 'continue', why: { code: 'sharedCgroup' } },
    },
  ])('$what', ({ command, bytes, changes, verdict }) => {
    expect(decide(command, bytes, changes)).toMatchObject(verdict)
  })

  test.each([[[8]], [[]]])('a detachment of what may have been attached is an act, when there are %j still', (ids) => {
    const changes = { attached: () => ({ flags: ids.length === 0 ? 0 : 2, ids, revision: 0n }) }
    const bytes = attr(12, { 0: 3, 4: 4, 8: 6 })
    expect(decide(9, bytes, changes)).toMatchObject({ is: 'act', act: { program } })
  })

  test('unreadable memory is for the kernel to find', () => {
    expect(decide(5, loading({ 8: 0x7000 }))).toMatchObject({ is: 'act', act: { load: { instructions: undefined } } })
    expect(decide(5, loading({ 16: 0x7000 }))).toMatchObject({ is: 'act', act: { load: { licence: undefined } } })
  })

  test.each([
    { command: 5, bytes: loading(), enough: [['SYS_ADMIN'], ['BPF', 'NET_ADMIN']], few: ['BPF'] },
    { command: 8, bytes: attaching(), enough: [['SYS_ADMIN'], ['BPF', 'NET_ADMIN']], few: ['NET_ADMIN'] },
    { command: 16, bytes: attr(32, { 4: 6 }), enough: [['SYS_ADMIN'], ['NET_ADMIN']], few: ['BPF'] },
    { command: 13, bytes: attr(4, { 0: 7 }), enough: [['SYS_ADMIN']], few: ['BPF', 'NET_ADMIN'] },
    { command: 15, bytes: attr(16, {}), enough: [[]], few: undefined },
  ])('command $command asks for $enough', ({ command, bytes, enough, few }) => {
    const by = (caps: readonly string[]) => decide(command, bytes, {}, { holds: (cap) => caps.includes(cap) })
    for (const caps of enough) expect(by(caps).is).toBe('act')
    if (few) expect(by(few)).toMatchObject({ is: 'continue', why: { code: 'lacksCapability' } })
    expect(decide(command, bytes, {}, { inInitialUserns: false })).toMatchObject({ why: { code: 'childUserns' } })
  })
})

describe('the holder of a BPF token', () => {
  const [MAP_CREATE, PROG_LOAD, TOKEN_CREATE] = [0, 5, 36]
  const delegating = parsePolicy([
    ['bpf', 'true'],
    ['bpf.delegate_cmds', 'prog_load'],
  ])
  const both = parsePolicy([
    ['bpf', 'true'],
    ['bpf.devices', 'true'],
    ['bpf.delegate_cmds', 'prog_load'],
  ])
  const having =
    (...caps: readonly Cap[]) =>
    (cap: Cap): boolean =>
      caps.includes(cap)
  const weak = having('BPF', 'NET_ADMIN')
  const judged = (command: number, by: Policy, changes: Partial<Caller> = {}): Verdict => {
    // Its memory cannot be read now, which says nothing about what the kernel will read.
    const caller = standIn({
      holds: weak,
      ...changes,
      bytes: () => {
        throw new ContinueError('unreadable')
      },
    })
    return (
      bpf.screen(registers(BigInt(command), 0n, 144n), by) ??
      judgedBy(by, bpf.decide(bpf.decode(registers(BigInt(command), 0n, 144n), caller, by), caller, by))
    )
  }

  test.each([
    { who: 'with CAP_SYS_ADMIN', holds: having('SYS_ADMIN', 'BPF') },
    { who: 'with CAP_PERFMON', holds: having('PERFMON', 'BPF', 'NET_ADMIN') },
    { who: 'with CAP_SYS_ADMIN of a child user namespace', holds: having('SYS_ADMIN'), inInitialUserns: false },
  ])('$who makes no map and loads no program, whatever is in its memory', ({ who: _, ...changes }) => {
    for (const command of [MAP_CREATE, PROG_LOAD])
      for (const by of [delegating, both, { ...delegating, mode: 'observe' as const }])
        expect(judged(command, by, changes)).toMatchObject({ is: 'errno', errno: 1, why: { code: 'readsKernel' } })
  })

  test('neither does it by a token of an earlier policy', () => {
    for (const by of [{}, policy, { ...policy, mode: 'observe' as const }])
      expect(judged(PROG_LOAD, by, { holds: () => true, mayHaveTokens: true })).toMatchObject({ is: 'errno', errno: 1 })
    expect(judged(PROG_LOAD, {}, { holds: () => true })).toMatchObject({ is: 'continue', why: { code: 'keyOff' } })
  })

  test.each([
    { what: 'with a policy that delegates', by: { policy: delegating }, expected: true },
    { what: 'with an earlier one that did', by: { policy: {}, mayHaveTokens: true }, expected: true },
    { what: 'without tokens', by: { policy }, expected: false },
    { what: 'from i386', arch: architectures.i386, expected: true },
    { what: 'from x32', x32: 0x4000_0000, expected: true },
    { what: 'of another command', command: 1, expected: false },
    { what: 'of another call', name: 'mount', expected: false },
  ])('a call $what needs a judge: $expected', ({ arch = architectures.x86_64, name = 'bpf', x32 = 0, ...given }) => {
    const { by = { policy: delegating }, command = PROG_LOAD, expected } = given
    const at = 8
    const { [name]: nr = 0 }: Readonly<Record<string, number>> = arch.numbers
    const view = new DataView(new ArrayBuffer(at + SECCOMP_NOTIF_SIZE))
    view.setUint32(at + NOTIF.arch, arch.audit, true)
    view.setInt32(at + NOTIF.nr, nr | x32, true)
    view.setUint32(at + NOTIF.args, command, true)
    expect(needsJudge(by, view, at)).toBe(expected)
  })

  test('makes none in a child user namespace, where it may have every capability', () => {
    expect(judged(TOKEN_CREATE, delegating, { inInitialUserns: false })).toMatchObject({ is: 'errno', errno: 1 })
    expect(judged(TOKEN_CREATE, delegating, { holds: () => true })).toMatchObject({ is: 'continue' })
  })

  test('without these capabilities is left to the kernel, which decides by the token', () => {
    for (const command of [MAP_CREATE, PROG_LOAD, TOKEN_CREATE])
      expect(judged(command, delegating)).toMatchObject({ is: 'continue', why: { code: 'tokenDecides' } })
  })

  test('with them still loads device programs', () => {
    const verdict = decide(PROG_LOAD, loading(), {}, {}, both)
    expect(verdict).toMatchObject({ is: 'act', act: { verb: 'loadProgram' } })
    expect(decide(PROG_LOAD, loading(), {}, {}, { ...both, mode: 'observe' })).toMatchObject({ is: 'errno', errno: 1 })
  })
})
