import type { Rule } from '../calls/syscall.ts'
import { remainder } from './base.ts'
import { type Cube, everything, intersect, separate, toArgs } from './condition.ts'
import { ALLOW, NOTIFY, type OciArg, type OciRule, type OciSeccomp } from './oci.ts'
import { TSYNC } from './target.ts'

export interface Compilation {
  readonly rules: readonly Rule[]
  /**
   * Architectures by their OCI names, the native one first. A `base` keeps its own: one without any is for the native
   * one alone, and more of them would let code in that it kills.
   */
  readonly architectures: readonly string[]
  /** A profile that stays in force for all registers that no rule matches. */
  readonly base?: OciSeccomp
  /** Seccomp filter flags, see `filterFlags()`. */
  readonly flags: readonly string[]
  readonly listenerPath: string
  /** The lines of the policy, which the agent gets with the listener. */
  readonly metadata: string
}

/** Returns the registers for which each call is trapped. */
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

/** Merges rules that differ only in their names. */
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
 * Checks that no rule for a trapped call needs 64 bits: for 32-bit code (and x32) libseccomp compares only the low
 * half of a register, so a rule for a higher bit would match everything there, before rules of ours.
 *
 * @throws {RangeError} if there is such a rule
 */
function checkWidth(rules: readonly OciRule[]): readonly OciRule[] {
  const wide = ({ op, value, valueTwo }: OciArg): boolean =>
    BigInt((op === 'SCMP_CMP_MASKED_EQ' ? valueTwo : value) ?? 0) > 0xffff_ffffn
  const found = rules.find(({ args }) => args?.some(wide))
  if (found) throw new RangeError(`its rules for ${found.names[0]} tell values above 32 bits apart, 32-bit code cannot`)
  return rules
}

/** Returns the base's rules for all calls that are not trapped, unchanged. */
const untouched = (base: OciSeccomp, names: ReadonlyMap<string, unknown>): readonly OciRule[] =>
  (base.syscalls ?? [])
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !names.has(name)) }))
    .filter((rule) => rule.names.length > 0)

/**
 * Compiles the rules of the handlers into OCI `linux.seccomp`. The function is pure: the same rules give the same
 * profile. Without any rule the profile has no listener, since a runtime would hand over a listener that never
 * delivers a call.
 *
 * @throws {RangeError} if the base's rules for a trapped call contradict each other, or need 64 bits
 */
export function compileOci(compilation: Compilation): OciSeccomp {
  const { rules, architectures, flags, listenerPath, metadata } = compilation
  const { base = { defaultAction: ALLOW, architectures } } = compilation
  const calls = trapped(rules)
  const notify = [...calls].flatMap(([name, cubes]) =>
    separate(cubes).map((cube): OciRule => ({ names: [name], action: NOTIFY, ...toArgs(cube) })),
  )
  const rest = [...calls].flatMap(([name, cubes]) => remainder(name, base, cubes))
  const allFlags = new Set([...(base.flags ?? []), ...flags])
  if (notify.length > 0) allFlags.delete(TSYNC)
  return {
    ...base,
    ...(base.flags || allFlags.size > 0 ? { flags: [...allFlags] } : {}),
    ...(notify.length > 0 ? { listenerPath, listenerMetadata: metadata } : {}),
    syscalls: [...join(checkWidth([...notify, ...rest])), ...untouched(base, calls)],
  }
}
