import type { Policy } from '../policy/policy.ts'
import type { Caller, Registers } from './caller.ts'
import type { Verdict } from './verdict.ts'

/** The handler of a system call, or of several calls that differ only in their names. */
export interface Syscall<R> {
  readonly names: readonly string[]
  /**
   * Returns the verdict if the registers alone decide it; the thread that received the call then answers at once.
   *
   * @returns undefined if the caller must be looked at
   */
  screen(args: Registers, policy: Policy): Verdict | undefined
  /** Whether the call is done so soon that no other thread needs to receive calls meanwhile. */
  readonly brief?: boolean
  /** Copies what the call uses of the caller's memory, once. */
  decode(args: Registers, caller: Caller): R
  /**
   * Decides the verdict. May read, open and bar, but changes nothing else; an act has the handles that were checked.
   */
  decide(request: R, caller: Caller, policy: Policy): Verdict
}
