import type { Caller } from '../caller/caller.ts'
import type { Act, Effect, Trace, Verb } from '../calls/act.ts'
import type { Registers } from '../calls/caller.ts'
import type { Syscall } from '../calls/syscall.ts'
import { PassOn, pass, type Verdict } from '../calls/verdict.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Policy } from '../policy/policy.ts'
import { verbs } from '../verbs/index.ts'

/** Before the act a failed kernel call of ours is no answer to the caller: the kernel shall judge it. */
export function judge(handler: Syscall<unknown>, args: Registers, caller: Caller, policy: Policy): Verdict {
  try {
    return handler.decide(handler.decode(args, caller), caller, policy)
  } catch (error) {
    if (error instanceof SyscallError) return pass('lookFailed', error.errno)
    if (error instanceof PassOn) return { is: 'continue', why: error.why }
    throw error
  }
}

/**
 * Does the act; the verbs are a closed list, and each act goes to the verb that it names.
 *
 * @param again where an earlier engine had begun with it: what that has done is adopted
 */
export function perform<A extends Act>(act: A, caller: Caller, again: Trace | undefined): Effect {
  const verb = verbs[act.verb] as Verb<A>
  return again ? runAgain(verb, act, caller, again) : verb.run(act, caller)
}

/** What was done is looked for again where the act fails: a thread that hangs may go on even in a process that was killed. */
function runAgain<A extends Act>(verb: Verb<A>, act: A, caller: Caller, trace: Trace): Effect {
  const done = verb.found?.(act, caller, trace)
  if (done) return done
  try {
    return verb.run(act, caller)
  } catch (error) {
    const late = error instanceof SyscallError ? verb.found?.(act, caller, trace) : undefined
    if (late) return late
    throw error
  }
}
