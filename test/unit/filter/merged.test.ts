import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import type { Rule } from '../../../src/calls/syscall.ts'
import { resolveGuards } from '../../../src/filter/base.ts'
import { compileOci } from '../../../src/filter/compile.ts'
import { lintProfile } from '../../../src/filter/lint.ts'
import type { OciSeccomp } from '../../../src/filter/oci.ts'
import { machines } from '../../../src/filter/target.ts'
import { parsePolicy } from '../../../src/policy/settings.ts'
import { crun } from '../../../src/runtimes/known/crun.ts'
import { rulesFor } from '../../../src/syscalls/index.ts'
import { PODMAN_PROFILE } from '../../support/fixtures.ts'
import {
  type Architecture,
  compile,
  execute,
  NOTIFIED,
  numberOf,
  seccompData,
  unable,
} from '../../support/libseccomp.ts'
import { withReason } from '../../support/skipped.ts'

const BASES = fileURLToPath(new URL('../../../src/filter/bases/', import.meta.url))
/** The first two are installed by scripts/setup.sh: podman's with podman, Docker's taken out of a package of its sources. */
const bases = [
  { engine: 'podman', file: PODMAN_PROFILE },
  { engine: 'Docker', file: '/usr/local/share/intercede-tests/docker-seccomp.json' },
  ...['containerd', 'cri-o'].map((engine) => ({ engine, file: join(BASES, `${engine}.json`) })),
]

const rules = rulesFor(
  parsePolicy(
    ['mknod', 'setxattr', 'setxattr.read', 'sysinfo', 'sched_setscheduler', 'bpf', 'bpf.devices', 'mount']
      .map((key): [string, string] => [key, 'true'])
      .concat([['mount.fuse', 'ext4=fuse2fs']]),
  ),
)

const kinds = [
  { machine: 'x64', arch: 'SCMP_ARCH_X86_64', bits: 64n },
  { machine: 'x64', arch: 'SCMP_ARCH_X86', bits: 32n },
  { machine: 'x64', arch: 'SCMP_ARCH_X32', bits: 32n },
  { machine: 'arm64', arch: 'SCMP_ARCH_AARCH64', bits: 64n },
] as const satisfies readonly { readonly machine: string; readonly arch: Architecture; readonly bits: bigint }[]

/** __X32_SYSCALL_BIT, which the numbers of x32 have. */
const X32 = 0x4000_0000
const COUNT = 32_000
const FEW = ['CAP_CHOWN', 'CAP_SYS_CHROOT', 'CAP_MKNOD']
const MANY = [...FEW, 'CAP_SYS_ADMIN', 'CAP_BPF', 'CAP_AUDIT_WRITE']

/** Mulberry32: the same calls in every run. */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return (t ^ (t >>> 14)) >>> 0
  }
}

/** Every value that a filter compares an argument with, and its neighbours: by argument. */
function valuesOf(profiles: readonly OciSeccomp[]): readonly (readonly bigint[])[] {
  const values = Array.from({ length: 6 }, () => new Set([0n, 1n, 0xffff_ffffn, 0xffff_ffff_ffff_ffffn, 1n << 32n]))
  const conditions = profiles.flatMap(({ syscalls = [] }) => syscalls.flatMap(({ args }) => args ?? []))
  for (const { index, value, valueTwo = 0 } of conditions) {
    for (const base of [BigInt(value), BigInt(valueTwo), BigInt(value) & BigInt(valueTwo)]) {
      for (const near of [base, base - 1n, base + 1n, base | (1n << 32n), base | (1n << 63n)]) {
        values[index]!.add(BigInt.asUintN(64, near))
      }
    }
  }
  return values.map((set) => [...set])
}

interface Call {
  readonly name: string
  readonly nr: number
  readonly registers: readonly bigint[]
}

/**
 * For each call that has conditions: each value at each argument, and each rule's values all at once. Then each call once, and
 * random calls until there are `COUNT`.
 */
function* calls(profiles: readonly OciSeccomp[], arch: Architecture, bits: bigint): Generator<Call> {
  const random = generator(COUNT)
  const values = valuesOf(profiles)
  const pick = <T>(list: readonly T[]): T => list[random() % list.length]!
  const any = (index: number): bigint =>
    random() % 4 ? pick(values[index]!) : (BigInt(random()) << 32n) | BigInt(random())
  const registers = (): bigint[] => Array.from({ length: 6 }, (_, index) => BigInt.asUintN(Number(bits), any(index)))
  const all = profiles.flatMap(({ syscalls = [] }) => syscalls)
  const known = (names: readonly string[]) =>
    [...new Set(names)].flatMap((name) => {
      const nr = numberOf(name, arch)
      return nr === undefined ? [] : [{ name, nr }]
    })
  const narrow = (value: number | bigint): bigint => BigInt.asUintN(Number(bits), BigInt(value))
  let made = 0
  /** Several rules are about one call: its arguments are gone through once. */
  const probed = new Set<number>()
  for (const { names, args } of all.filter((rule) => rule.args?.length)) {
    for (const call of known(names)) {
      const exact = args!.reduce((list, { index, op, value, valueTwo = 0 }) => {
        return list.with(index, narrow(op === 'SCMP_CMP_MASKED_EQ' ? valueTwo : value))
      }, registers())
      const isNew = probed.size < probed.add(call.nr).size
      const single = isNew ? values.flatMap((list, at) => list.map((value) => registers().with(at, narrow(value)))) : []
      for (const one of [exact, ...single]) yield { ...call, registers: one }
      made += 1 + single.length
    }
  }
  const names = known(all.flatMap((rule) => rule.names))
  const trapped = known(rules.map(({ name }) => name))
  for (const call of names) yield { ...call, registers: registers() }
  made += names.length
  const first = arch === 'SCMP_ARCH_X32' ? X32 : 0
  const numbers = Array.from({ length: 600 }, (_, nr) => ({ name: `call ${nr}`, nr: (first | nr) >>> 0 }))
  for (; made < COUNT; made++) yield { ...pick(pick([names, trapped, numbers])), registers: registers() }
}

/** The conditions under which each number of an architecture is trapped. */
function trapsOf(arch: Architecture): ReadonlyMap<number | undefined, readonly Rule[]> {
  const traps = new Map<number | undefined, Rule[]>()
  for (const rule of rules) {
    const nr = numberOf(rule.name, arch)
    traps.set(nr, [...(traps.get(nr) ?? []), rule])
  }
  return traps
}

const holds = ({ when = [] }: Rule, registers: readonly bigint[]): boolean =>
  when.every(({ arg, mask, equals }) => (registers[arg]! & mask) === equals)

const hex = (result: number): string => result.toString(16)

describe.skipIf(unable)(withReason('compileOci() as the kernel runs it', unable), () => {
  describe.each(bases)('on top of the profile of $engine', ({ file }) => {
    const absent = existsSync(file) ? undefined : `${file} is not there`
    const rows = kinds.flatMap((kind) => [FEW, MANY].map((caps) => ({ ...kind, caps })))
    test.skipIf(absent).each(rows)(
      withReason(`${COUNT} calls of $arch with $caps.length capabilities mean the same unless we trap them`, absent),
      { timeout: 120_000 },
      ({ machine, arch, bits, caps }) => {
        const { goArch, architectures } = machines[machine]!
        const stock = JSON.parse(readFileSync(file, 'utf8')) as OciSeccomp
        const circumstances = { caps: new Set(caps), arch: goArch, kernel: [6, 1] } as const
        const base = resolveGuards(stock, architectures[0], circumstances)
        const merged = compileOci({ rules, architectures, base, flags: [], listenerPath: '/a', metadata: '' })
        const [before, after] = [compile(base), compile(merged)]
        const traps = trapsOf(arch)
        const seen = new Map<number, number>()
        for (const { name, nr, registers } of calls([base, merged], arch, bits)) {
          const data = seccompData(nr, arch, registers)
          const [was, is] = [execute(before, data), execute(after, data)]
          const expected = traps.get(nr)?.some((rule) => holds(rule, registers)) ? NOTIFIED : was
          if (is !== expected) expect.fail(`${name}(${registers}): ${hex(is)} instead of ${hex(expected)}`)
          seen.set(is, (seen.get(is) ?? 0) + 1)
        }
        // Nothing is shown by calls that all end alike.
        for (const often of [0x7fff0000, 0x7fc00000, 0x50001]) expect(seen.get(often)).toBeGreaterThan(1000)
        expect([...seen.values()].reduce((sum, count) => sum + count)).toBe(COUNT)
        expect(lintProfile(merged, crun.target).filter(({ is }) => is === 'wrong')).toEqual([])
        // BPF_MAXINSNS; the kernel takes no more.
        expect(after.length / 2).toBeLessThan(4096)
      },
    )
  })
})
