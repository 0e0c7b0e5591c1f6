import type { Errno } from '../../abi/brand.ts'
import { errno } from '../../abi/errno.ts'
import type { NotifiedCaller } from '../../caller/caller.ts'
import type { Act, Effect, RecoveryTrace, Verb } from '../../calls/act.ts'
import { type Reason, why } from '../../calls/reasons.ts'
import { Phase } from '../../calls/steps.ts'
import { ContinueError, Refused, type Verdict } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/fd.ts'
import { verbs } from '../../verbs/index.ts'
import type { Replay } from '../replay/replay.ts'

const names = Object.keys(verbs) as readonly Act['verb'][]
/** Maps each verb to the phase which says what capabilities its acts may have in effect. */
const acting = Object.fromEntries(names.map((name) => [name, new Phase(name, verbs[name].steps)])) as Readonly<
  Record<Act['verb'], Phase>
>

/**
 * Runs the verb that the act names, from the closed list of verbs. From here on only the capabilities which that verb
 * declares can be in effect.
 *
 * @param again the trace of an act that an earlier engine had begun: `recover` looks for its result first
 * @param replay for an act whose answer may get lost: it gives a restarted call the recorded result
 */
export function perform<A extends Act>(
  act: A,
  caller: NotifiedCaller,
  again: RecoveryTrace | undefined,
  replay: Replay<A> | undefined,
): Effect {
  const verb = verbs[act.verb] as Verb<A>
  caller.begin(acting[act.verb])
  if (replay) return replay.run(caller, () => run(verb, act, caller, again))
  return run(verb, act, caller, again)
}

const run = <A extends Act>(verb: Verb<A>, act: A, caller: NotifiedCaller, again: RecoveryTrace | undefined): Effect =>
  again ? runAgain(verb, act, caller, again) : verb.run(act, caller)

/**
 * Looks for the result of the begun act, and acts if there is none. If that act fails, the result is looked for a
 * second time: a thread that hung in the kernel may complete the first act even after its process was killed.
 */
function runAgain<A extends Act>(verb: Verb<A>, act: A, caller: NotifiedCaller, trace: RecoveryTrace): Effect {
  const done = verb.recover?.(act, caller, trace)
  if (done) return done
  try {
    return verb.run(act, caller)
  } catch (error) {
    const late = error instanceof SyscallError ? verb.recover?.(act, caller, trace) : undefined
    if (late) return late
    throw error
  }
}

/** What a thread did with a call: everything that the answer and the record need. */
export interface Outcome {
  readonly is: 'continue' | 'act' | 'errno'
  readonly errno: Errno | 0
  readonly value: bigint
  readonly why: Reason
  /** A descriptor that the caller gets with the answer; its number there is the value, unless it `replaces` another. */
  readonly fd?: Handle | undefined
  readonly cloexec?: boolean | undefined
  readonly replaces?: number | undefined
  readonly sent?: Effect['sent'] | undefined
}

/** The outcome of a call for which an unknown part of its act may be done: the kernel must not run the call again. */
export const UNKNOWN_OUTCOME: Outcome = { is: 'errno', errno: errno('EIO'), value: 0n, why: why('unsettled') }

/**
 * Copies the effect's results into the caller's memory; if the copy fails (EFAULT), the effect's descriptor is
 * closed, which undoes the act: whoever returns `writes` beside an act that lasts must return a descriptor, too.
 * Properties are named one by one, since rest and spread cost 2 µs per call here.
 *
 * @param done the reason that is recorded, unless the effect has a reason of its own
 */
export function writeBack(
  { value, writes, errno, why: said, fd, cloexec, replaces, sent }: Effect,
  caller: NotifiedCaller,
  done: Reason,
): Outcome {
  try {
    if (writes && writes.length > 0) caller.write(writes)
  } catch (error) {
    fd?.[Symbol.dispose]()
    sent?.(undefined)
    throw notWritten(error)
  }
  if (errno !== undefined) return { is: 'errno', errno, value, why: said ?? kernelAnswered(errno), fd, cloexec }
  return { is: 'act', errno: 0, value, why: said ?? done, fd, cloexec, replaces, sent }
}

/**
 * Returns what to throw if the caller's memory could not be opened. The act is done, so the kernel must not run the
 * call: its answer would lack a part of ours, such as a name in a list. A caller that is gone gets no answer.
 */
function notWritten(error: unknown): unknown {
  if (!(error instanceof ContinueError) || error.why.code === 'gone') return error
  return new Refused('notWritten', errno('EFAULT'), error.why.a)
}

export const outcomeOfVerdict = (verdict: Verdict): Outcome => ({
  is: verdict.is,
  errno: verdict.is === 'errno' ? verdict.errno : 0,
  value: 0n,
  why: verdict.why,
})

/** The reason has the errno, by which lists of refusals tell errors apart. */
export const kernelAnswered = (errno: Errno): Reason => why('kernelAnswered', errno)

/**
 * Maps an exception to an outcome. A fault of ours answers only this call, with EIO; the call is not continued, since
 * it may have acted already.
 */
export function outcomeOfError(error: unknown): Outcome {
  if (error instanceof Refused) return { is: 'errno', errno: error.errno, value: 0n, why: error.why }
  if (error instanceof ContinueError) return { is: 'continue', errno: 0, value: 0n, why: error.why }
  if (error instanceof SyscallError)
    return { is: 'errno', errno: error.errno, value: 0n, why: kernelAnswered(error.errno) }
  return { is: 'errno', errno: errno('EIO'), value: 0n, why: why('fault') }
}
