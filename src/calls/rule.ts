/** One condition on a register: `(args[arg] & mask) === equals`. */
export interface Condition {
  readonly arg: number
  readonly mask: bigint
  readonly equals: bigint
}

/** Traps the system call `name` if all conditions hold. The handlers say what to trap; filter/ compiles their rules. */
export interface Rule {
  readonly name: string
  readonly when?: readonly Condition[]
}

/** Returns the calls that rules trap, each once, in the order of the rules. */
export const trappedBy = (rules: readonly Rule[]): ReadonlySet<string> => new Set(rules.map(({ name }) => name))

/** The mask of an exact comparison: all 64 bits. */
export const EXACT = 0xffff_ffff_ffff_ffffn
