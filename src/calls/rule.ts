import type { Policy } from '../policy/policy.ts'

/** One condition on a register: `(args[arg] & mask) === equals`. */
export interface Condition {
  readonly arg: number
  readonly mask: bigint
  readonly equals: bigint
}

/** Traps the system call `name` if all conditions hold. Each family of calls has its rules; filter/ compiles them. */
export interface Rule {
  readonly name: string
  readonly when?: readonly Condition[]
}

/** The mask of an exact comparison: all 64 bits. */
export const EXACT = 0xffff_ffff_ffff_ffffn

/** Returns which calls of a family to trap under a policy; none if the policy does not serve the family. */
export type Traps = (policy: Policy) => readonly Rule[]
