import type { KeyName } from '../policy/keys.ts'
import type { Policy } from '../policy/policy.ts'
import type { Caller, MemoryReader, Registers } from './caller.ts'
import type { Verdict } from './verdict.ts'

/**
 * One condition on a register: `(args[arg] & mask) === equals`, or the opposite. It may be negated only if it compares
 * all 64 bits, as SCMP_CMP_NE does; otherwise "not 1" would take 64 rules.
 */
export interface Condition {
  readonly arg: number
  readonly mask: bigint
  readonly equals: bigint
  readonly negated?: true
}

/** Tells whether a condition holds for these registers. */
export const holds = ({ arg, mask, equals, negated }: Condition, args: readonly bigint[]): boolean =>
  (((args[arg] ?? 0n) & mask) === equals) !== (negated === true)

/** Traps the system call `name` if all conditions hold. The handlers say what to trap; filter/ compiles their rules. */
export interface Rule {
  readonly name: string
  readonly when?: readonly Condition[]
}

/** Returns the calls that rules trap, each once, in the order of the rules. */
export const trappedBy = (rules: readonly Rule[]): ReadonlySet<string> => new Set(rules.map(({ name }) => name))

/** The mask of an exact comparison: all 64 bits. */
export const EXACT = 0xffff_ffff_ffff_ffffn

/** The handler of a system call: what of the call is trapped, what its registers mean, and what is done about it. */
export interface Syscall<R> {
  readonly name: string
  /** The key that allows the call: it is trapped under a policy that serves this key. */
  readonly key: KeyName
  /**
   * A call is trapped if all conditions of one of these lists hold. The member is left out where a filter cannot tell
   * the calls apart, so that all are trapped.
   */
  readonly when?: readonly (readonly Condition[])[]
  /** Other keys that need calls of this name too, and which: all, if `when` is left out. */
  readonly also?: { readonly keys: readonly KeyName[]; readonly when?: readonly (readonly Condition[])[] }
  /** Says in words for docs/guide/profile.md which calls are trapped, and why if all are. */
  readonly trapped: string
  /** Whether calls are only trapped to say why the kernel refuses them: a filter may well lack the rule. */
  readonly tells?: boolean
  /**
   * Returns the verdict if the registers alone decide it; the thread that received the call then answers at once.
   *
   * @returns undefined if the caller must be looked at
   */
  screen(args: Registers, policy: Policy): Verdict | undefined
  /** Tells whether this kernel has the call; absent for calls that every supported kernel has. */
  readonly isInKernel?: () => boolean
  /** Whether the call is done so soon that no other thread needs to receive calls meanwhile. */
  readonly brief?: boolean
  /** Copies what the call uses of the caller's memory, once; of a value that the policy does not serve, nothing. */
  decode(args: Registers, memory: MemoryReader, policy: Policy): R
  /**
   * Returns the verdict if the copy alone decides it, as it does for most calls of a handler that has this method: the
   * leader then answers without a look at the caller, and no other thread receives calls meanwhile.
   */
  screenCopy?(request: R): Verdict | undefined
  /**
   * Decides the verdict. May read, open and bar, but changes nothing else; an act has the handles that were checked.
   */
  decide(request: R, caller: Caller, policy: Policy): Verdict
}
