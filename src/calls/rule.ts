import type { Policy } from '../policy/policy.ts'

/** One condition on a register: `(args[arg] & mask) === equals`. */
export interface Condition {
  readonly arg: number
  readonly mask: bigint
  readonly equals: bigint
}

/** Trap the system call `name` if all conditions hold. A handler states its rules; filter/ only compiles them. */
export interface Rule {
  readonly name: string
  readonly when?: readonly Condition[]
}

/** All 64 bits: an exact comparison. */
export const EXACT = 0xffff_ffff_ffff_ffffn

/** The half of a handler that the filter needs. */
export interface Traps {
  readonly names: readonly string[]
  /** What to trap under this policy; nothing if it does not serve the call. */
  traps(policy: Policy): readonly Rule[]
}
