import type { NotifiedCaller } from '../../caller/caller.ts'
import type { Act, Effect, RecoveryTrace, Verb } from '../../calls/act.ts'
import { Phase } from '../../calls/steps.ts'
import { ContinueError, continueWith, type Verdict } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import { verbs } from '../../verbs/index.ts'
import type { Replay } from '../replay/replay.ts'

/**
 * Returns the verdict on a call for which decoding or deciding failed. A kernel call of ours that fails there is not an
 * answer to the caller: nothing was done yet, so the call is continued and the kernel finds the errno itself.
 */
export function verdictOfError(error: unknown): Verdict {
  if (error instanceof SyscallError) return continueWith('lookFailed', error.errno)
  if (error instanceof ContinueError) return { is: 'continue', why: error.why }
  throw error
}

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
