import type { Errno } from '../abi/brand.ts'
import { major, minor } from '../abi/stat.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Policy } from '../policy/policy.ts'
import type { Act } from './act.ts'
import { packName } from './packed.ts'
import { type Reason, type ReasonCode, reasonCodes, why } from './reasons.ts'

/**
 * What is to be done about a call. continue: the kernel runs the call as the caller, unprivileged. errno: an errno
 * which the kernel itself would not give; isOfKept: to a caller that may no longer use what it got from us. act: the
 * act is done for the caller.
 */
export type Verdict =
  | { readonly is: 'continue'; readonly why: Reason }
  | { readonly is: 'errno'; readonly errno: Errno; readonly why: Reason; readonly isOfKept?: true }
  | { readonly is: 'act'; readonly act: Act; readonly why: Reason }

export const continueWith = (code: ReasonCode, a?: number, b?: number): Verdict => ({
  is: 'continue',
  why: why(code, a, b),
})
/** Tells whether a handler leaves a call because the policy does not serve it. It does not say which key is off. */
export const isOff = (verdict: Verdict | undefined): boolean =>
  verdict?.is === 'continue' && verdict.why.code === 'keyOff'
export const refuse = (code: ReasonCode, errno: Errno, a?: number, b?: number): Verdict => ({
  is: 'errno',
  errno,
  why: why(code, a, b),
})
/** Refuses the use of something that the caller got from us under an earlier policy; also in observe mode. */
export const refuseKept = (code: ReasonCode, errno: Errno, a?: number, b?: number): Verdict => ({
  is: 'errno',
  errno,
  why: why(code, a, b),
  isOfKept: true,
})
export const act = (what: Act, code: ReasonCode = 'done', a?: number): Verdict => ({
  is: 'act',
  act: what,
  why: why(code, a),
})

/** Tells acts of one kind apart in the lists of refusals, which keep one call for each pair of numbers. */
function numbersOf(what: Act, { a = 0 }: Reason): readonly number[] {
  if (what.verb === 'mknod' || what.verb === 'placeNode') return [major(what.dev), minor(what.dev)]
  if (what.verb === 'mount') return packName(what.call.type)
  return what.verb === 'openContext' ? packName(what.type) : [a]
}

/** Leaves the call to the kernel in observe mode; the reason then says what would have been done. */
export function judgedBy({ mode }: Policy, verdict: Verdict): Verdict {
  if (mode !== 'observe' || verdict.is === 'continue') return verdict
  if (verdict.is === 'act') return continueWith('observedAct', ...numbersOf(verdict.act, verdict.why))
  if (verdict.isOfKept) return verdict
  // The program would go on to mount(2), which would be done.
  if (verdict.why.code === 'fuseByMount') return continueWith('observedAct')
  return continueWith('observedErrno', verdict.errno, reasonCodes.indexOf(verdict.why.code))
}

/** An errno for the caller which is not the kernel's: the kernel was not asked, or only for something else. */
export class Refused extends Error {
  override readonly name = 'Refused'
  readonly errno: Errno
  readonly why: Reason

  constructor(code: ReasonCode, errno: Errno, a?: number) {
    super(code)
    this.errno = errno
    this.why = why(code, a)
  }
}

/**
 * Makes the engine continue the call: nothing was done for it. Thrown from inside a lookup, and by a verb only before
 * it has acted: a call is never continued after an act.
 */
export class ContinueError extends Error {
  override readonly name = 'ContinueError'
  readonly why: Reason

  constructor(code: ReasonCode, a?: number, b?: number) {
    super(code)
    this.why = why(code, a, b)
  }
}

/**
 * Returns the verdict on a call for which decoding or deciding failed. A kernel call of ours that fails there is not an
 * answer to the caller: nothing was done yet, so the call is continued and the kernel finds the errno itself.
 */
export function verdictOfError(error: unknown): Verdict {
  if (error instanceof SyscallError) return continueWith('lookFailed', error.errno)
  if (error instanceof ContinueError) return { is: 'continue', why: error.why }
  throw error
}
