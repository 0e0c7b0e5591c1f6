// Runs OCI seccomp profiles as a comparison for src/filter/: for tests of rules, without the kernel or libseccomp.

import type { OciArg, OciRule, OciSeccomp } from '../../src/filter/oci.ts'

/** The comparisons of libseccomp on one 64-bit register, written without a line of src/. */
const compare: Record<string, (register: bigint, value: bigint, two: bigint) => boolean> = {
  SCMP_CMP_EQ: (r, v) => r === v,
  SCMP_CMP_NE: (r, v) => r !== v,
  SCMP_CMP_LT: (r, v) => r < v,
  SCMP_CMP_LE: (r, v) => r <= v,
  SCMP_CMP_GT: (r, v) => r > v,
  SCMP_CMP_GE: (r, v) => r >= v,
  SCMP_CMP_MASKED_EQ: (r, v, two) => (r & v) === (two & v),
}

const argHolds = ({ index, op, value, valueTwo = 0 }: OciArg, registers: readonly bigint[]): boolean =>
  compare[op]!(registers[index] ?? 0n, BigInt(value), BigInt(valueTwo))

function holds({ args }: OciRule, registers: readonly bigint[]): boolean {
  const list = args ?? []
  const twice = new Set(list.map(({ index }) => index)).size < list.length
  return twice ? list.some((arg) => argHolds(arg, registers)) : list.every((arg) => argHolds(arg, registers))
}

const text = ({ action, errnoRet }: { readonly action: string; readonly errnoRet?: number }): string =>
  errnoRet === undefined ? action : `${action} ${errnoRet}`

/**
 * What a filter does with a call: an unconditional rule wins, else the conditional ones must agree.
 *
 * @throws if rules of different actions hold at once: libseccomp would choose by chance
 */
export function interpret(profile: OciSeccomp, name: string, registers: readonly bigint[]): string {
  const { defaultAction: action, defaultErrnoRet: errnoRet } = profile
  const fallback = text({ action, ...(errnoRet === undefined ? {} : { errnoRet }) })
  const rules = (profile.syscalls ?? []).filter((rule) => rule.names.includes(name) && text(rule) !== fallback)
  const whole = rules.find(({ args }) => !args?.length)
  if (whole) return text(whole)
  const actions = new Set(rules.filter((rule) => holds(rule, registers)).map(text))
  if (actions.size > 1) throw new Error(`${name}: ${[...actions].join(' and ')} at once`)
  return [...actions][0] ?? fallback
}
