import { isDeepStrictEqual } from 'node:util'
import { type CallEntry, callOf, calls, type OptionEntry } from './key-names.ts'
import type { KeyName } from './keys.ts'
import type { Policy } from './policy.ts'

/** What a call of the policy does, by the names that its options have there. */
export type Values = Readonly<Record<string, unknown>>

export const valuesOf = (policy: Policy, { member }: CallEntry): Values | undefined => policy[member as keyof Policy]

/** What an option is in the policy if nobody says anything about it. */
export const defaultOf = ({ key }: OptionEntry): unknown => key.inPolicy(key.parse(key.default), () => [])

export const isGiven = (option: OptionEntry, values: Values): boolean =>
  !isDeepStrictEqual(values[option.member], defaultOf(option))

export function doesSomething({ options }: CallEntry, values: Values): boolean {
  const essential = options.filter(({ key }) => key.essential)
  return essential.length === 0 || essential.some((option) => isGiven(option, values))
}

/** Does a policy allow what this key is for? */
export function serves(policy: Policy, name: KeyName): boolean {
  const call = calls.find((each) => each.name === callOf(name))!
  const values = valuesOf(policy, call)
  if (!values || !doesSomething(call, values)) return false
  const option = call.options.find((each) => each.name === name)
  return !option || isGiven(option, values)
}
