import type { Rule } from '../calls/rule.ts'
import { remainder } from './base.ts'
import { toArgs } from './condition.ts'
import { type Cube, everything, intersect, separate } from './cube.ts'
import { ALLOW, NOTIFY, type OciArg, type OciRule, type OciSeccomp } from './oci.ts'

export interface Compilation {
  readonly rules: readonly Rule[]
  /** Names as in OCI, the native one first; a `base` that names its own keeps them. */
  readonly architectures: readonly string[]
  /** A profile whose meaning is kept wherever no rule holds. */
  readonly base?: OciSeccomp
  /** Seccomp filter flags, see `flagsFor()`. */
  readonly flags: readonly string[]
  readonly listenerPath: string
  /** The lines of the policy: the agent gets them with the listener. */
  readonly metadata: string
}

/** The registers that each call is trapped for. */
function trapped(rules: readonly Rule[]): ReadonlyMap<string, readonly Cube[]> {
  const cubes = new Map<string, readonly Cube[]>()
  for (const { name, when = [] } of rules) {
    const own = when.reduce<readonly Cube[]>(
      (sum, term) => sum.flatMap((cube) => intersect(cube, [term])),
      [everything],
    )
    cubes.set(name, [...(cubes.get(name) ?? []), ...own])
  }
  return cubes
}

/** Joins rules that differ in the names only. */
function join(rules: readonly OciRule[]): readonly OciRule[] {
  const joined = new Map<string, OciRule>()
  for (const rule of rules) {
    const { names, ...rest } = rule
    const key = JSON.stringify(rest, (_, value) => (typeof value === 'bigint' ? `${value}n` : value))
    joined.set(key, { ...rule, names: [...new Set([...(joined.get(key)?.names ?? []), ...names])] })
  }
  return [...joined.values()]
}

/**
 * libseccomp compares the low half of a register alone for 32-bit code (and for x32), so a rule that asks for a bit above
 * it would hold there for everything, over rules of ours.
 *
 * @throws {RangeError} if a rule for a trapped call is such a one
 */
function checkWidth(rules: readonly OciRule[]): readonly OciRule[] {
  const wide = ({ op, value, valueTwo }: OciArg): boolean =>
    BigInt((op === 'SCMP_CMP_MASKED_EQ' ? valueTwo : value) ?? 0) > 0xffff_ffffn
  const found = rules.find(({ args }) => args?.some(wide))
  if (found) throw new RangeError(`its rules for ${found.names[0]} tell values above 32 bits apart, 32-bit code cannot`)
  return rules
}

/** The base's rules for all calls that we do not trap, as they are. */
const untouched = (base: OciSeccomp, names: ReadonlyMap<string, unknown>): readonly OciRule[] =>
  (base.syscalls ?? [])
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !names.has(name)) }))
    .filter((rule) => rule.names.length > 0)

/**
 * Compiles the rules that handlers state into OCI `linux.seccomp`. Pure: the same rules give the same profile.
 *
 * Without a rule there is no listener either: a runtime would hand over one that never speaks.
 *
 * @throws {RangeError} if the base's rules for a trapped call contradict each other, or need 64 bits
 */
export function compileOci(compilation: Compilation): OciSeccomp {
  const { rules, architectures, base = { defaultAction: ALLOW }, flags, listenerPath, metadata } = compilation
  const calls = trapped(rules)
  const notify = [...calls].flatMap(([name, cubes]) =>
    separate(cubes).map((cube): OciRule => ({ names: [name], action: NOTIFY, ...toArgs(cube) })),
  )
  const rest = [...calls].flatMap(([name, cubes]) => remainder(name, base, cubes))
  const allFlags = [...new Set([...(base.flags ?? []), ...flags])]
  return {
    ...base,
    ...(base.archMap || base.architectures ? {} : { architectures }),
    ...(allFlags.length > 0 ? { flags: allFlags } : {}),
    ...(notify.length > 0 ? { listenerPath, listenerMetadata: metadata } : {}),
    syscalls: [...join(checkWidth([...notify, ...rest])), ...untouched(base, calls)],
  }
}
