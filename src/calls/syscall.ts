import type { Policy } from '../policy/policy.ts'
import type { Caller, Registers } from './caller.ts'
import type { Verdict } from './verdict.ts'

/** One system call, or several that differ in nothing but the name: what the registers mean, what to do. */
export interface Syscall<R> {
  readonly names: readonly string[]
  /**
   * What the registers alone decide: answered at once by the thread that received the call. undefined: the caller must be
   * looked at.
   */
  screen(args: Registers, policy: Policy): Verdict | undefined
  /** So soon done that nobody needs to look for other calls meanwhile. */
  readonly brief?: boolean
  /** Copies the caller's memory, once. */
  decode(args: Registers, caller: Caller): R
  /** May read, open and bar; changes nothing else. The handles of the act are those that it looked at. */
  decide(request: R, caller: Caller, policy: Policy): Verdict
}
