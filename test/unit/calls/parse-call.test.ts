import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { architectures } from '../../../src/abi/syscalls.ts'
import { argumentNames, argumentsOf, knownCalls } from '../../../src/calls/arguments.ts'
import { CallSyntaxError, callOfFields, numberIn, parseCall } from '../../../src/calls/parse-call.ts'
import { spell } from '../../../src/calls/spell.ts'
import { handlers } from '../../../src/syscalls/index.ts'

const { audit, numbers } = architectures.x86_64

/** Spells a call of these registers, and these texts by the index of their argument. */
const spelled = (name: string, args: readonly bigint[], texts: ReadonlyMap<number, Uint8Array>): string =>
  spell(audit, (numbers as Readonly<Record<string, number>>)[name]!, {
    args,
    texts: Buffer.concat([...texts].map(([index, bytes]) => Buffer.from([index, bytes.length, ...bytes]))),
  })

const register = fc.oneof(fc.bigInt(0n, 0xffff_ffff_ffff_ffffn), fc.bigInt(0n, 0xffffn), fc.constant(0n))
const bytes = fc.uint8Array({ maxLength: 20 }).map((all) => all.map((byte) => byte || 1))

test('every call that is served can be read', () => {
  expect([...knownCalls].sort()).toEqual(handlers.map(({ name }) => name).sort())
})

test.each(knownCalls)('%s: what is spelled is read as the same call', (name) => {
  const kinds = argumentsOf(name)!
  const isText = (index: number): boolean => kinds[index] === 'path' || kinds[index] === 'name'
  fc.assert(
    fc.property(
      fc.array(register, { minLength: 6, maxLength: 6 }),
      fc.array(bytes, { minLength: 6, maxLength: 6 }),
      (args, all) => {
        const texts = new Map([...all.entries()].filter(([index]) => isText(index)))
        const text = spelled(name, args, texts)
        const parsed = parseCall(text)
        const again = new Map(
          [...kinds.keys()].flatMap((index) => {
            const found = parsed.memory.get(parsed.args[index]!)
            return found ? [[index, found.bytes.subarray(0, -1)] as const] : []
          }),
        )
        expect(spelled(name, parsed.args, again)).toBe(text)
        for (const [index, kind] of kinds.entries())
          if (kind === 'pointer') expect(parsed.args[index]).toBe(args[index])
      },
    ),
    { numRuns: 60 },
  )
})

const textAt = (text: string, index: number): string | undefined => {
  const { args, memory } = parseCall(text)
  const found = memory.get(args[index]!)
  return found && Buffer.from(found.bytes).toString('latin1')
}

describe('parseCall()', () => {
  test.each([
    { text: 'mknod("a", S_IFCHR|0666, makedev(0xa, 0xc8))', index: 2, is: 0x0ac8n },
    { text: 'mknod("a", S_IFCHR|0666, 10:200) = -1 EPERM (Operation not permitted)', index: 1, is: 0o20666n },
    { text: ' mknodat( AT_FDCWD</root>, "a", S_IFBLK, 8:1 ) ', index: 0, is: 0xffff_ffff_ffff_ff9cn },
    { text: 'umount2("/mnt", MNT_FORCE|UMOUNT_NOFOLLOW)', index: 1, is: 9n },
    { text: 'mount("/dev/vda", "/mnt", "ext4", MS_RDONLY|MS_RELATIME, NULL)', index: 3, is: 0x20_0001n },
    { text: 'sched_setscheduler(0, 0x7 /* SCHED_EXT */, [0])', index: 1, is: 7n },
    { text: 'setxattr("d", "user.a", "y", 1, XATTR_CREATE)', index: 4, is: 1n },
    { text: 'setxattr("d", "user.a", "four", sizeof, 0)', index: 3, is: 4n },
    { text: 'bpf(BPF_PROG_LOAD, NULL, 0)', index: 0, is: 5n },
    // As strace(1) writes processes and times before it, and leaves out what the kernel does not read.
    { text: '[pid   812] 13:57:01.000123 mknod("a", S_IFCHR, makedev(0x1, 0x3)) = 0 <0.000012>', index: 2, is: 0x103n },
    { text: '20833 1796133421.000123 mknodat(AT_FDCWD, "f", S_IFIFO|0666) = 0', index: 3, is: 0n },
    { text: '20833 umount2("/mnt", MNT_DETACH)  = 0', index: 1, is: 2n },
  ])('$text', ({ text, index, is }) => expect(parseCall(text).args[index]).toBe(is))

  test.each([
    { text: 'mknod("a\\"b\\\\\\n\\101\\x42é", S_IFCHR, 1:3)', index: 0, is: 'a"b\\\nAB\u00c3\u00a9\0' },
    { text: 'mknod("cut"..., S_IFCHR, 1:3)', index: 0, is: 'cut\0' },
    { text: 'sched_setparam(0, [50])', index: 1, is: '2\0\0\0' },
    { text: 'sched_setparam(0, {sched_priority=50})', index: 1, is: '2\0\0\0' },
    { text: 'setxattr("d", "n", "y", 1, 0)', index: 2, is: 'y\0' },
    { text: 'sysinfo({uptime=82286, loads=[249376, 2], mem_unit=1, a={b="}"}}) = 0', index: 0, is: '' },
    {
      text: 'bpf(BPF_PROG_LOAD, {prog_type=6, license="GPL", kern_version=KERNEL_VERSION(6, 1, 2), ...}, 152) = 5',
      index: 1,
      is: `\x06${'\0'.repeat(20)}\x60${'\0'.repeat(18)}\x02\x01\x06${'\0'.repeat(101)}`,
    },
    {
      text: 'bpf(BPF_PROG_QUERY, {query={target_fd=3, attach_type=0, prog_ids=[], prog_cnt=64 => 0}, ...}, 152)',
      index: 1,
      is: `\x03${'\0'.repeat(20)}\x60\0\0\x40${'\0'.repeat(15)}`,
    },
    {
      text: 'bpf(BPF_PROG_QUERY, {query={target_fd=3, attach_type=BPF_CGROUP_DEVICE, prog_cnt=0, ...}}, 40)',
      index: 1,
      is: `\x03${'\0'.repeat(3)}\x06${'\0'.repeat(35)}`,
    },
  ])('$text points to memory', ({ text, index, is }) => expect(textAt(text, index)).toBe(is))

  test.each([
    { text: 'mknodat(AT_FDCWD, tun, S_IFCHR, 10:200)', at: 19 },
    { text: 'mknod("tun, S_IFCHR, 10:200)', at: 7 },
    { text: 'mknod("tun", S_IFCHAR, 10:200)', at: 14, hint: 'S_IFCHR' },
    { text: 'mknod("tun", S_IFCHR)', at: 21 },
    { text: 'sysinfo({uptime={1}', at: 20 },
    { text: 'mknod("tun", S_IFCHR, 10:200', at: 29 },
    { text: 'mknod("tun", S_IFCHR, 10:200) and more', at: 31 },
    { text: 'sysinfo', at: 8 },
    { text: 'sched_setparam(0, {sched_prio=1})', at: 20 },
    { text: '', at: 1 },
  ])('says in words that it cannot read $text from character $at on', ({ text, at, hint = '' }) => {
    expect(() => parseCall(text)).toThrow(CallSyntaxError)
    expect(() => parseCall(text)).toThrow(new RegExp(`at character ${at}, not .*${hint}`))
  })

  test('says in words which calls there are', () => {
    expect(() => parseCall('mkmod("a", 0, 0)')).toThrow('does not serve "mkmod" (did you mean "mknod"?)')
    expect(() => parseCall('unlink("a")')).toThrow('it serves mknod, mknodat, ')
  })

  test('ends for any text', () => {
    const text = fc.string({ unit: 'binary', maxLength: 60 })
    fc.assert(
      fc.property(fc.constantFrom('', 'mknod(', 'bpf(BPF_PROG_LOAD, {', 'sched_setparam(0, ['), text, (begin, rest) => {
        try {
          parseCall(begin + rest)
        } catch (error) {
          expect(error).toBeInstanceOf(CallSyntaxError)
        }
      }),
    )
  })
})

describe('callOfFields()', () => {
  test.each([
    {
      fields: { syscall: 'mknod', path: 'tun', mode: 'S_IFCHR|0666', dev: '10:200' },
      is: 'mknod("tun", S_IFCHR|0666, 10:200)',
    },
    { fields: { syscall: 'mknodat', path: '"a b"', mode: '0', dev: '0' }, is: 'mknodat(AT_FDCWD, "a b", 0, 0)' },
    { fields: { syscall: 'sched_setparam', param: '[7]' }, is: 'sched_setparam(0, [7])' },
    { fields: { syscall: 'setxattr', path: 'd', value: 'y' }, is: undefined },
    {
      fields: { syscall: 'mount', source: '/dev/vda', target: '/mnt', type: 'ext4', data: 'ro' },
      is: 'mount("/dev/vda", "/mnt", "ext4", 0, "ro")',
    },
    {
      fields: { syscall: 'lsetxattr', path: 'd', attribute: 'x' },
      is: undefined,
    },
    { fields: { syscall: 'nothing' }, is: undefined },
    { fields: { path: 'n' }, is: undefined },
  ])('$fields: $is', ({ fields, is }) => {
    const given = fields as Readonly<Record<string, string>>
    if (is === undefined) expect(() => callOfFields(given)).toThrow(CallSyntaxError)
    else expect(parseCall(callOfFields(given)).text).toBe(is)
  })

  test.each(knownCalls)('the arguments of %s have names', (name) => {
    const names = argumentNames(name)
    expect(new Set(names).size).toBe(argumentsOf(name)!.length)
    const given = Object.fromEntries(names.map((each) => [each, '0x10']))
    expect(parseCall(callOfFields({ syscall: name, ...given })).args.slice(0, names.length)).toEqual(
      names.map(() => 16n),
    )
  })
})

test.each([
  ['0666', 0o666n],
  ['S_IFCHR|0640', 0o20640n],
  ['10:200', 0xac8n],
  ['tun', undefined],
])('numberIn(%s)', (text, is) => expect(numberIn(text)).toBe(is))
