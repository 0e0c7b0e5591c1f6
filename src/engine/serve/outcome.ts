import type { Errno } from '../../abi/brand.ts'
import { errno } from '../../abi/errno.ts'
import type { NotifiedCaller } from '../../caller/caller.ts'
import type { Effect } from '../../calls/act.ts'
import { type Reason, why } from '../../calls/reason.ts'
import { ContinueError, Refused, type Verdict } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/handle.ts'

/** What a thread did with a call: everything that the record needs. */
export interface Outcome {
  readonly is: 'continue' | 'act' | 'errno'
  readonly errno: Errno | 0
  readonly value: bigint
  readonly why: Reason
  /** Goes with the answer instead of a value. */
  readonly fd?: Handle | undefined
  readonly cloexec?: boolean | undefined
  readonly replaces?: number | undefined
  readonly sent?: ((fd: number) => void) | undefined
}

/** Something may have been done for it, and it cannot be told what: the kernel must not judge it. */
export const UNKNOWN_OUTCOME: Outcome = { is: 'errno', errno: errno('EIO'), value: 0n, why: why('unsettled') }

/**
 * Gives the caller what an act has for its memory; a page that cannot be written takes the descriptor back. Members are
 * named one by one: with rest and spread this cost 2 us of each call.
 */
export function writeBack(
  { value, writes, errno, why: said, fd, cloexec, replaces, sent }: Effect,
  caller: NotifiedCaller,
  done: Reason,
): Outcome {
  try {
    if (writes) caller.write(writes)
  } catch (error) {
    fd?.[Symbol.dispose]()
    throw error
  }
  if (errno !== undefined) return { is: 'errno', errno, value, why: said ?? why('kernelAnswered'), fd, cloexec }
  return { is: 'act', errno: 0, value, why: said ?? done, fd, cloexec, replaces, sent }
}

export const outcomeOfVerdict = (verdict: Verdict): Outcome => ({
  is: verdict.is,
  errno: verdict.is === 'errno' ? verdict.errno : 0,
  value: 0n,
  why: verdict.why,
})

/**
 * What an exception means for the call. A fault of ours answers this one call with EIO and takes nothing else with it: it
 * may have acted, so the kernel must not judge again.
 */
export function outcomeOfError(error: unknown): Outcome {
  if (error instanceof Refused) return { is: 'errno', errno: error.errno, value: 0n, why: error.why }
  if (error instanceof ContinueError) return { is: 'continue', errno: 0, value: 0n, why: error.why }
  if (error instanceof SyscallError) return { is: 'errno', errno: error.errno, value: 0n, why: why('kernelAnswered') }
  return { is: 'errno', errno: errno('EIO'), value: 0n, why: why('fault') }
}
