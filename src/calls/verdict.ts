import type { Errno } from '../abi/brand.ts'
import type { Act } from './act.ts'
import { type Reason, type ReasonCode, why } from './reason.ts'

/**
 * continue: the kernel judges the caller as it is, with the caller's own rights. errno: only what the kernel itself could
 * not say. act: to be done for the caller.
 */
export type Verdict =
  | { readonly is: 'continue'; readonly why: Reason }
  | { readonly is: 'errno'; readonly errno: Errno; readonly why: Reason }
  | { readonly is: 'act'; readonly act: Act; readonly why: Reason }

export const continueWith = (code: ReasonCode, a?: number, b?: number): Verdict => ({
  is: 'continue',
  why: why(code, a, b),
})
export const refuse = (code: ReasonCode, errno: Errno, a?: number, b?: number): Verdict => ({
  is: 'errno',
  errno,
  why: why(code, a, b),
})
export const act = (what: Act, code: ReasonCode = 'done'): Verdict => ({ is: 'act', act: what, why: why(code) })

/** What the kernel could not say: it was not asked, or would have been asked for something else. */
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
 * Nothing was done and nothing will be: the kernel shall judge. Thrown from deep inside a lookup, and by a verb only
 * before its act: never `continue` after acting.
 */
export class ContinueError extends Error {
  override readonly name = 'ContinueError'
  readonly why: Reason

  constructor(code: ReasonCode, a?: number, b?: number) {
    super(code)
    this.why = why(code, a, b)
  }
}
