import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EXACT } from '../../../src/calls/syscall.ts'
import { compileLxc, parseLxcPolicy } from '../../../src/filter/lxc.ts'
import type { Policy } from '../../../src/policy/policy.ts'
import { rulesFor } from '../../../src/syscalls/index.ts'
import { interpret } from '../../support/bpf-interpreter.ts'

const SECTIONS = new Set(['all', 'x86_64', 'x86', 'x32'])
const parse = (text: string) => parseLxcPolicy(text, SECTIONS)
const mknod: Policy = { mknod: { devices: new Set() } }
const rules = rulesFor(mknod)
const NOTIFY_MKNOD = 'mknod notify [1,0x2000,SCMP_CMP_MASKED_EQ,0xb000]'

describe('parseLxcPolicy()', () => {
  test.each([
    { line: 'mknod', style: 'denylist', rule: { action: 'SCMP_ACT_KILL' } },
    { line: 'mknod', style: 'allowlist', rule: { action: 'SCMP_ACT_ALLOW' } },
    { line: 'mknod errno 1', rule: { action: 'SCMP_ACT_ERRNO', errnoRet: 1 } },
    { line: 'mknod  # why', rule: { action: 'SCMP_ACT_KILL' } },
    { line: 'mknod trap # why', rule: { action: 'SCMP_ACT_TRAP' } },
    {
      line: 'mknod allow [1,8192,SCMP_CMP_MASKED_EQ,61440]',
      rule: {
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 1, value: 61440n, valueTwo: 8192n, op: 'SCMP_CMP_MASKED_EQ' }],
      },
    },
    {
      line: 'mknod errno 1 [1,0x10,!=] [2,010,<=]',
      rule: {
        action: 'SCMP_ACT_ERRNO',
        errnoRet: 1,
        args: [
          { index: 1, value: 16n, op: 'SCMP_CMP_NE' },
          { index: 2, value: 8n, op: 'SCMP_CMP_LE' },
        ],
      },
    },
  ])('$line of a $style', ({ line, style = 'denylist', rule }) => {
    expect(parse(`2\n${style}\n${line}\n`).profile.syscalls).toEqual([{ names: ['mknod'], ...rule }])
  })

  test.each([
    { style: 'denylist', fallback: { defaultAction: 'SCMP_ACT_ALLOW' } },
    { style: 'blacklist', fallback: { defaultAction: 'SCMP_ACT_ALLOW' } },
    { style: 'allowlist', fallback: { defaultAction: 'SCMP_ACT_KILL' } },
    { style: 'whitelist errno 38', fallback: { defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 38 } },
    { style: 'allowlist trap', fallback: { defaultAction: 'SCMP_ACT_TRAP' } },
  ])('$style', ({ style, fallback }) => {
    expect(parse(`2\n${style}\n`).profile).toEqual({ ...fallback, syscalls: [] })
  })

  test('a section of another machine is not in force, one of this machine says nothing', () => {
    const { profile } = parse('2\ndenylist\n[arm]\na\n[x86]\nb\n# c\n\n[all]\nreject_force_umount # d\ne\n')
    expect(profile.syscalls?.flatMap(({ names }) => names)).toEqual(['b', 'e'])
  })

  test.each([
    { text: '', says: /version 2/ },
    { text: '1\nallowlist\n0\n', says: /version 2/ },
    { text: '2\nlist\n', says: /version 2/ },
    { text: '2\ndenylist sometimes\n', says: /action of "denylist sometimes"/ },
    { text: '2\ndenylist\nmknod maybe\n', says: /action of "mknod maybe"/ },
    { text: '2\ndenylist\nmknod allow [1,2]\n', says: /condition of "mknod allow \[1,2\]"/ },
    { text: '2\ndenylist\nmknod allow [6,2,==]\n', says: /condition/ },
    { text: '2\ndenylist\nmknod allow [1,two,==]\n', says: /number/ },
    { text: '2\ndenylist\n-\n', says: /rule "-"/ },
  ])('refuses $text', ({ text, says }) => {
    expect(() => parse(text)).toThrow(says)
  })
})

describe('compileLxc()', () => {
  test('without a base all else is allowed', () => {
    expect(compileLxc(rules, undefined, ['hello'])).toBe(
      `2\ndenylist\n# hello\n[all]\n${NOTIFY_MKNOD}\nmknodat notify [2,0x2000,SCMP_CMP_MASKED_EQ,0xb000]\n`,
    )
  })

  test('a base keeps its own lines, but for those of the trapped calls', () => {
    const base = '2\ndenylist\nreject_force_umount # x\n[all]\nkexec_load errno 1\nmknod errno 13\n[arm]\nmknod kill\n'
    const lines = compileLxc(rules, parse(base)).split('\n')
    expect(lines.slice(0, 7)).toEqual([
      '2',
      'denylist',
      'reject_force_umount # x',
      '[all]',
      'kexec_load errno 1',
      '[arm]',
      'mknod kill',
    ])
    expect(lines[7]).toBe('[all]')
    expect(lines).toContain(NOTIFY_MKNOD)
    expect(lines.filter((line) => line.startsWith('mknod errno 13 ['))).not.toEqual([])
  })

  test.each([
    { base: '2\ndenylist\nreject_force_umount\n', of: [] },
    { base: '2\ndenylist\nkexec_load errno 1\n', of: ['umount2 notify [1,0x1,SCMP_CMP_MASKED_EQ,0x1]'] },
  ])('has for umount -f, with the base $base: $of', ({ base, of }) => {
    const forced = [{ name: 'umount2', when: [{ arg: 1, mask: 1n, equals: 1n }] }]
    const lines = compileLxc([...rules, ...forced], parse(base)).split('\n')
    expect(lines.filter((line) => line.startsWith('umount2'))).toEqual(of)
    expect(lines).toContain(NOTIFY_MKNOD)
  })

  test.each([
    { what: 'a list of what is denied', base: '2\ndenylist\nmknod errno 13\nsetns errno 1\n' },
    {
      what: 'a list of what is allowed',
      base: '2\nallowlist errno 38\nmknod\nmknodat allow [2,0,SCMP_CMP_MASKED_EQ,0x1ff]\n',
    },
    { what: 'conditions of its own', base: '2\ndenylist\nmknod errno 1 [1,0x6000,&=,0xf000]\n' },
  ])('$what means the same as before where nothing is trapped', ({ base }) => {
    const before = parse(base).profile
    const after = parse(compileLxc(rules, parse(base))).profile
    const mode = fc.oneof(
      fc.constantFrom(0n, 0x2000n, 0x21b6n, 0x6000n, 0x61b6n, 0x8000n, 0x81b6n, 0xa000n, 0xc000n),
      fc.bigInt(0n, EXACT),
    )
    fc.assert(
      fc.property(fc.constantFrom('mknod', 'mknodat', 'setns', 'read'), mode, mode, (name, one, two) => {
        const type = name === 'mknod' ? one : two
        const isTrapped = name.startsWith('mknod') && (type & 0xb000n) === 0x2000n
        const expected = isTrapped ? 'SCMP_ACT_NOTIFY' : interpret(before, name, [0n, one, two])
        expect(interpret(after, name, [0n, one, two])).toBe(expected)
      }),
      { numRuns: 2000 },
    )
  })

  test('a base whose rules contradict each other is refused', () => {
    const base = parse('2\ndenylist\nmknod errno 1 [1,1,==]\nmknod errno 2 [2,1,==]\n')
    expect(() => compileLxc(rules, base)).toThrow(/contradict each other/)
  })
})
