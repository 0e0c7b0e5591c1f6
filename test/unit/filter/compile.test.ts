import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Rule } from '../../../src/calls/syscall.ts'
import { compileOci } from '../../../src/filter/compile.ts'
import { formatProfile, type OciArg, type OciRule, type OciSeccomp } from '../../../src/filter/oci.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { crun } from '../../../src/runtimes/known/crun.ts'
import { rulesFor } from '../../../src/syscalls/index.ts'
import { interpret } from '../../support/bpf-interpreter.ts'

const common = {
  architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
  flags: [],
  listenerPath: '/run/a.sock',
  metadata: 'mknod=true\n',
}
const everyRule = rulesFor(
  parsePolicy([
    ['mknod', 'true'],
    ['setxattr', 'true'],
    ['sysinfo', 'true'],
    ['sched_setscheduler', 'true'],
    ['bpf', 'true'],
    ['bpf.devices', 'true'],
    ['mount', 'true'],
    ['mount.fuse', 'ext4=fuse2fs'],
  ]),
)

test('compileOci() of mknod is exactly this', () => {
  const rules = rulesFor(parsePolicy([['mknod', 'true']]))
  expect(compileOci({ ...common, rules, flags: crun.target.flags })).toEqual({
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
    flags: ['SECCOMP_FILTER_FLAG_SPEC_ALLOW', 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'],
    listenerPath: '/run/a.sock',
    listenerMetadata: 'mknod=true\n',
    syscalls: [
      {
        names: ['mknod'],
        action: 'SCMP_ACT_NOTIFY',
        args: [{ index: 1, value: 0o130000, valueTwo: 0o020000, op: 'SCMP_CMP_MASKED_EQ' }],
      },
      {
        names: ['mknodat'],
        action: 'SCMP_ACT_NOTIFY',
        args: [{ index: 2, value: 0o130000, valueTwo: 0o020000, op: 'SCMP_CMP_MASKED_EQ' }],
      },
    ],
  })
})

test('compileOci() without rules asks for no listener', () => {
  expect(compileOci({ ...common, rules: [] })).toEqual({
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: common.architectures,
    syscalls: [],
  })
})

test('compileOci() calls with the same condition share a rule', () => {
  const { syscalls } = compileOci({ ...common, rules: everyRule.filter(({ name }) => name.endsWith('xattr')) })
  expect(syscalls).toEqual([
    {
      names: ['setxattr', 'lsetxattr', 'fsetxattr'],
      action: 'SCMP_ACT_NOTIFY',
      args: [{ index: 3, value: 1, op: 'SCMP_CMP_EQ' }],
    },
  ])
})

describe('compileOci() on top of a base', () => {
  const allow = (...names: string[]): OciRule => ({ names, action: 'SCMP_ACT_ALLOW' })
  const deny: OciSeccomp = { defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 38, syscalls: [] }

  test('cuts an unconditional allow into what we do not trap, and leaves other calls alone', () => {
    const rules: Rule[] = [{ name: 'a', when: [{ arg: 1, mask: 0b11n, equals: 0b10n }] }]
    const { syscalls } = compileOci({ ...common, rules, base: { ...deny, syscalls: [allow('a', 'b')] } })
    expect(syscalls).toEqual([
      {
        names: ['a'],
        action: 'SCMP_ACT_NOTIFY',
        args: [{ index: 1, value: 3, valueTwo: 2, op: 'SCMP_CMP_MASKED_EQ' }],
      },
      { names: ['a'], action: 'SCMP_ACT_ALLOW', args: [{ index: 1, value: 3, valueTwo: 3, op: 'SCMP_CMP_MASKED_EQ' }] },
      { names: ['a'], action: 'SCMP_ACT_ALLOW', args: [{ index: 1, value: 2, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }] },
      { names: ['b'], action: 'SCMP_ACT_ALLOW' },
    ])
  })

  test('names no architecture that the base does not name: runtimes take the native one alone', () => {
    const base: OciSeccomp = { defaultAction: 'SCMP_ACT_ALLOW' }
    expect(compileOci({ ...common, rules: everyRule, base })).not.toHaveProperty('architectures')
    const none = { ...base, architectures: [] }
    expect(compileOci({ ...common, rules: everyRule, base: none }).architectures).toEqual([])
  })

  test('keeps flags, except for one that the kernel refuses beside a listener', () => {
    const base: OciSeccomp = { ...deny, flags: ['SECCOMP_FILTER_FLAG_TSYNC', 'SECCOMP_FILTER_FLAG_LOG'] }
    const flagsOf = (rules: readonly Rule[], flags: readonly string[], of = base) =>
      compileOci({ ...common, rules, flags, base: of }).flags
    expect(flagsOf(everyRule, ['F'])).toEqual(['SECCOMP_FILTER_FLAG_LOG', 'F'])
    expect(flagsOf(everyRule, [], { ...deny, flags: ['SECCOMP_FILTER_FLAG_TSYNC'] })).toEqual([])
    expect(flagsOf([], [])).toEqual(base.flags)
  })

  test('needs two rules for a value that is compared as a whole', () => {
    const rules = everyRule.filter(({ name }) => name === 'setxattr')
    const { syscalls } = compileOci({ ...common, rules, base: { ...deny, syscalls: [allow('setxattr')] } })
    expect(syscalls?.map(({ action, args }) => [action, args])).toEqual([
      ['SCMP_ACT_NOTIFY', [{ index: 3, value: 1, op: 'SCMP_CMP_EQ' }]],
      ['SCMP_ACT_ALLOW', [{ index: 3, value: 1, op: 'SCMP_CMP_NE' }]],
    ])
  })

  test('keeps guards, so that podman still decides by capability', () => {
    const guarded = { ...allow('a'), includes: { caps: ['CAP_BPF'] } }
    const { syscalls } = compileOci({
      ...common,
      rules: [{ name: 'a' }],
      base: { ...deny, syscalls: [guarded, allow('b')] },
    })
    expect(syscalls).toEqual([{ names: ['a'], action: 'SCMP_ACT_NOTIFY' }, allow('b')])
  })

  test('refuses a base in which a guard decides between two rules without conditions', () => {
    const [includes, excludes] = [{ includes: { caps: ['CAP_A'] } }, { excludes: { caps: ['CAP_A'] } }]
    const refuse: OciRule = { names: ['a'], action: 'SCMP_ACT_ERRNO' }
    const merge = (...syscalls: OciRule[]) =>
      compileOci({ ...common, rules: [{ name: 'a' }], base: { ...deny, syscalls } })
    const says = 'its rules for a contradict each other'
    expect(() => merge({ ...refuse, ...excludes }, allow('a'))).toThrow(`${says} (SCMP_ACT_ERRNO 1 and SCMP_ACT_ALLOW)`)
    expect(() => merge({ ...allow('a'), ...includes }, refuse)).toThrow(`${says} (SCMP_ACT_ALLOW and SCMP_ACT_ERRNO 1)`)
    // Nothing depends on the guard: the first rule counts anyway, says the same, or is the default.
    for (const rules of [
      [allow('a'), { ...refuse, ...excludes }],
      [{ ...allow('a'), ...includes }, allow('a')],
      [{ ...refuse, errnoRet: 38, ...excludes }, allow('a')],
    ])
      expect(() => merge(...rules)).not.toThrow()
  })

  test('takes an errno that is not given for EPERM: such a rule is the default, and no runtime uses it', () => {
    const base: OciSeccomp = {
      defaultAction: 'SCMP_ACT_ERRNO',
      syscalls: [
        { ...allow('a'), args: [{ index: 0, value: 1, op: 'SCMP_CMP_EQ' }] },
        { names: ['a'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 },
      ],
    }
    const rules: Rule[] = [{ name: 'a', when: [{ arg: 0, mask: 0b10n, equals: 0b10n }] }]
    const { syscalls = [] } = compileOci({ ...common, rules, base })
    expect(syscalls.map(({ action }) => action)).toEqual(['SCMP_ACT_NOTIFY', 'SCMP_ACT_ALLOW'])
    const named = {
      ...base,
      defaultErrno: 'EPERM',
      syscalls: base.syscalls!.map((rule) => ({ ...rule, errno: 'EPERM' })),
    }
    expect(compileOci({ ...common, rules, base: named }).syscalls).toHaveLength(2)
  })

  test('refuses a base whose rules for a trapped call contradict each other', () => {
    const arg = (index: number): OciArg => ({ index, value: 1, op: 'SCMP_CMP_EQ' })
    const syscalls: OciRule[] = [
      { ...allow('a'), args: [arg(0)] },
      { names: ['a'], action: 'SCMP_ACT_KILL', args: [arg(1)] },
    ]
    expect(() => compileOci({ ...common, rules: [{ name: 'a' }], base: { ...deny, syscalls } })).toThrow(
      'its rules for a contradict each other (SCMP_ACT_ALLOW and SCMP_ACT_KILL)',
    )
  })

  test('refuses a base that tells high values of a trapped call apart, which 32-bit code could not', () => {
    const syscalls: OciRule[] = [{ ...allow('a'), args: [{ index: 0, value: 5, op: 'SCMP_CMP_GT' }] }]
    const rules: Rule[] = [{ name: 'a', when: [{ arg: 1, mask: 1n, equals: 1n }] }]
    expect(() => compileOci({ ...common, rules, base: { ...deny, syscalls } })).toThrow('a tell values above 32 bits')
    expect(compileOci({ ...common, rules: [], base: { ...deny, syscalls } }).syscalls).toEqual(syscalls)
  })

  /** Registers near the edges of the conditions, so that both sides are hit. */
  const register = fc.oneof(
    fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
    fc.bigInt({ min: 0n, max: 40n }),
    fc.constantFrom(0xc0ed_0000n, 0xc0ed_1000n, 0xffff_ffff_c0ed_0000n, 0o020666n, 0o060666n, 0xffff_0000_0000_2000n),
    fc.constantFrom(...Array.from({ length: 64 }, (_, bit) => 1n << BigInt(bit))),
  )
  const registers = fc.array(register, { minLength: 6, maxLength: 6 })
  const small = fc.constantFrom(0n, 1n, 2n, 3n, 5n, 8n, 0x30n, 1n << 40n)
  const condition = fc
    .record({
      arg: fc.integer({ min: 0, max: 2 }),
      mask: fc.constantFrom(1n, 3n, 0xffn, 0xffff_ffff_ffff_ffffn),
      equals: small,
    })
    .map(({ arg, mask, equals }) => ({ arg, mask, equals: equals & mask }))
  const rule = fc.array(condition, { maxLength: 3 }).map((when): Rule => ({ name: 'call', when }))
  /** One condition of any kind and one that is a single term: orders on two arguments at once would be 64 x 64 rules. */
  const baseArg = (index: number, ...ops: string[]) =>
    fc.record({
      index: fc.constant(index),
      value: small.map(Number),
      valueTwo: small.map(Number),
      op: fc.constantFrom(...ops).map((op) => `SCMP_CMP_${op}`),
    })
  const baseRule = fc
    .record({
      any: fc.option(baseArg(0, 'EQ', 'NE', 'LT', 'LE', 'GT', 'GE', 'MASKED_EQ'), { nil: undefined }),
      more: fc.option(fc.oneof(baseArg(0, 'EQ', 'MASKED_EQ'), baseArg(1, 'EQ', 'MASKED_EQ')), { nil: undefined }),
      errnoRet: fc.constantFrom(1, 1, 1, 38),
    })
    .map(({ any, more, errnoRet }): OciRule => {
      const args = [any, more].filter((arg) => arg !== undefined)
      return { names: ['call'], action: 'SCMP_ACT_ERRNO', errnoRet, args }
    })

  const trappedBy = (rules: readonly Rule[], name: string, values: readonly bigint[]): boolean =>
    rules.some(
      (one) => one.name === name && (one.when ?? []).every(({ arg, mask, equals }) => (values[arg]! & mask) === equals),
    )

  test('means the base wherever no rule holds, for any base and any rules', { timeout: 300_000 }, () => {
    let seen = 0
    fc.assert(
      fc.property(
        fc.array(rule, { minLength: 1, maxLength: 3 }),
        fc.array(baseRule, { maxLength: 3 }),
        fc.array(registers, { minLength: 20, maxLength: 20 }),
        (rules, syscalls, samples) => {
          const base: OciSeccomp = { defaultAction: 'SCMP_ACT_ALLOW', syscalls }
          let merged: OciSeccomp
          try {
            merged = compileOci({ ...common, rules, base })
          } catch (error) {
            expect(() => {
              throw error
            }).toThrow(/contradict|above 32 bits/)
            return
          }
          for (const values of samples) {
            const expected = trappedBy(rules, 'call', values) ? 'SCMP_ACT_NOTIFY' : interpret(base, 'call', values)
            expect(interpret(merged, 'call', values)).toBe(expected)
            seen++
          }
        },
      ),
      { numRuns: 200 },
    )
    expect(seen).toBeGreaterThan(1000)
  })
})

test('formatProfile() writes 64-bit values exactly', () => {
  const rules: Rule[] = [{ name: 'a', when: [{ arg: 0, mask: 0xffff_ffff_ffff_fffen, equals: 0n }] }]
  expect(formatProfile(compileOci({ ...common, rules }))).toContain('"value": 18446744073709551614,\n')
})
