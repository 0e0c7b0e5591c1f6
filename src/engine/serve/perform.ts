import type { NotifiedCaller } from '../../caller/caller.ts'
import type { Act, Effect, RecoveryTrace, Verb } from '../../calls/act.ts'
import type { Registers } from '../../calls/caller.ts'
import { Phase } from '../../calls/steps.ts'
import type { Syscall } from '../../calls/syscall.ts'
import { ContinueError, continueWith, type Verdict } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Policy } from '../../policy/policy.ts'
import { verbs } from '../../verbs/index.ts'
import type { Replay } from '../replay/replay.ts'

/** Before the act a failed kernel call of ours is no answer to the caller: the kernel shall judge it. */
export function judge(handler: Syscall<unknown>, args: Registers, caller: NotifiedCaller, policy: Policy): Verdict {
  try {
    return handler.decide(handler.decode(args, caller), caller, policy)
  } catch (error) {
    if (error instanceof SyscallError) return continueWith('lookFailed', error.errno)
    if (error instanceof ContinueError) return { is: 'continue', why: error.why }
    throw error
  }
}

const names = Object.keys(verbs) as readonly Act['verb'][]
/** By verb, what may be in effect during its acts. */
const acting = Object.fromEntries(names.map((name) => [name, new Phase(name, verbs[name].steps)])) as Readonly<
  Record<Act['verb'], Phase>
>

/**
 * Does the act; the verbs are a closed list, and each act goes to the verb that it names. From here on nothing can be in effect
 * but what that declares.
 *
 * @param again where an earlier engine had begun with it: what that has done is adopted
 * @param adoption of an act whose answer may get lost
 */
export function perform<A extends Act>(
  act: A,
  caller: NotifiedCaller,
  again: RecoveryTrace | undefined,
  adoption: Replay<A> | undefined,
): Effect {
  const verb = verbs[act.verb] as Verb<A>
  caller.begin(acting[act.verb])
  if (adoption) return adoption.run(caller, () => run(verb, act, caller, again))
  return run(verb, act, caller, again)
}

const run = <A extends Act>(verb: Verb<A>, act: A, caller: NotifiedCaller, again: RecoveryTrace | undefined): Effect =>
  again ? runAgain(verb, act, caller, again) : verb.run(act, caller)

/** What was done is looked for again where the act fails: a thread that hangs may go on even in a process that was killed. */
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
