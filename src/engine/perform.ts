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
 * An earlier engine had begun with the act: what it has done is adopted. It is looked for again where the act fails, for a
 * thread that hangs may have gone on meanwhile, even in a process that was killed.
 */
export function runAgain<A extends Act>(act: A, caller: Caller, trace: Trace): Effect {
  const verb = verbs[act.verb] as Verb<A>
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

/** The verbs are a closed list; each act goes to the verb that it names. */
export function run<A extends Act>(act: A, caller: Caller): Effect {
  return (verbs[act.verb] as Verb<A>).run(act, caller)
}
