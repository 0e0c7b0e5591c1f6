import { PolicyError } from './error.ts'
import { fullName } from './key.ts'
import { type CallEntry, calls } from './key-names.ts'
import type { Policy } from './policy.ts'
import { defaultOf, doesSomething, isGiven, type Values, valuesOf } from './serves.ts'

/** What is left of a policy for an intercede that a user runs, and the keys that are not. */
export interface ForUser {
  readonly policy: Policy
  readonly withheld: readonly string[]
}

/** @throws {PolicyError} for a policy that asks for what only root of the host may do */
export function mustServeUser(policy: Policy): void {
  const { withheld } = forUser(policy)
  if (withheld.length === 0) return
  const who = 'the kernel lets only root of the host do that: have the administrator run intercede serve'
  throw new PolicyError(`${withheld.join(' and ')} cannot be served for a user; ${who}`)
}

/**
 * Returns what a call still does without root of the host, if it does anything, and the keys that need root of the
 * host.
 */
function partForUser(
  call: CallEntry,
  values: Values,
): { readonly values?: Values; readonly withheld: readonly string[] } {
  if (!call.key.rootless) return { withheld: [call.name] }
  const rootOnly = call.options.filter(({ key }) => key.rootless === false)
  const left = { ...values, ...Object.fromEntries(rootOnly.map((option) => [option.member, defaultOf(option)])) }
  const withheld = rootOnly.filter((option) => isGiven(option, values)).map(({ name }) => name)
  return doesSomething(call, left) ? { values: left, withheld } : { withheld }
}

/**
 * What may be done for containers in the user namespace of a user: nothing for which the kernel asks a capability in
 * the initial one. What remains takes none (sysinfo), or is done by a program of the container itself (mount.fuse).
 */
export function forUser(policy: Policy): ForUser {
  const parts = calls.flatMap((call) => {
    const values = valuesOf(policy, call)
    return values ? [{ member: call.member, ...partForUser(call, values) }] : []
  })
  return {
    policy: Object.fromEntries(parts.flatMap(({ member, values }) => (values ? [[member, values]] : []))),
    withheld: parts.flatMap(({ withheld }) => withheld.map(fullName)),
  }
}
