import type { Policy } from '../policy/policy.ts'

/** One condition on a register: `(args[arg] & mask) === equals`. */
export interface Condition {
  readonly arg: number
  readonly mask: bigint
  readonly equals: bigint
}

/** Trap the system call `name` if all conditions hold. Each family of calls states its rules; filter/ only compiles them. */
export interface Rule {
  readonly name: string
  readonly when?: readonly Condition[]
}

/** All 64 bits: an exact comparison. */
export const EXACT = 0xffff_ffff_ffff_ffffn

/** What to trap of a family of calls under this policy; nothing if it does not serve them. */
export type Traps = (policy: Policy) => readonly Rule[]
