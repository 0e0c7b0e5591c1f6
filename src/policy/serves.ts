import { isDeepStrictEqual } from 'node:util'
import { type CallEntry, callOf, calls, type OptionEntry } from './key-names.ts'
import type { KeyName } from './keys.ts'
import type { Policy } from './policy.ts'

/** The values of a call's options, by the names that the policy has for them. */
export type Values = Readonly<Record<string, unknown>>

/** Returns the values of a call's options; undefined if the call is off. */
export const valuesOf = (policy: Policy, { member }: CallEntry): Values | undefined => policy[member as keyof Policy]

/** Returns what the policy has of an option that nobody sets. */
export const defaultOf = ({ key }: OptionEntry): unknown => key.inPolicy(key.parse(key.default), () => [])

/** Tells whether an option differs from its default. */
export const isGiven = (option: OptionEntry, values: Values): boolean =>
  !isDeepStrictEqual(values[option.member], defaultOf(option))

/** Tells whether a call that is on does anything, which may take an essential option. */
export function doesSomething({ options }: CallEntry, values: Values): boolean {
  const essential = options.filter(({ key }) => key.essential)
  return essential.length === 0 || essential.some((option) => isGiven(option, values))
}

/** Tells whether a policy allows what a key is for. */
export function serves(policy: Policy, name: KeyName): boolean {
  const call = calls.find((each) => each.name === callOf(name))!
  const values = valuesOf(policy, call)
  if (!values || !doesSomething(call, values)) return false
  const option = call.options.find((each) => each.name === name)
  return !option || isGiven(option, values)
}

/** Returns the key that is off where a policy does not serve a call whose key is `name`. */
export function keyThatIsOff(policy: Policy, name: KeyName): KeyName {
  const call = calls.find((each) => each.name === callOf(name))!
  if (!valuesOf(policy, call)) return call.name
  const essential = call.options.find(({ key }) => key.essential)
  return name === call.name && essential ? essential.name : name
}
