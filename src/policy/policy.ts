import { isDeepStrictEqual } from 'node:util'
import { delegations } from './delegations.ts'
import { PolicyError } from './error.ts'
import { fullName } from './key.ts'
import {
  type CallEntry,
  type CallName,
  callOf,
  calls,
  type KeyName,
  type OptionEntry,
  type OptionName,
  type Value,
} from './keys.ts'

/** The name of a key in the policy, which has `maxPriority` for `max_priority`. */
type Member<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<Member<Rest>>}`
  : Name

/**
 * What may be done for one container, parsed once from `security.syscalls.intercept.*`. It has a member for each call
 * that is on, such as `mount`, which has a member for each option of the call, such as `nodev`. A call without a member
 * is left to the kernel. A policy can be cloned (structuredClone): it travels to the engine's threads as it is.
 */
export type Policy = {
  readonly [Call in CallName as Member<Call>]?: {
    readonly [Option in OptionName as Option extends `${Call}.${infer Name}` ? Member<Name> : never]: Value<Option>
  }
} & {
  /** Set if nothing is done for the container: what would be done is recorded, and the kernel gets the calls. */
  readonly mode?: 'observe'
}

/** The values of a call's options, by the names that the policy has for them. */
type Values = Readonly<Record<string, unknown>>

/** Returns the values of a call's options; undefined if the call is off. */
const valuesOf = (policy: Policy, { member }: CallEntry): Values | undefined =>
  policy[member as Exclude<keyof Policy, 'mode'>]

/** Returns what the policy has of an option that nobody sets. */
const defaultOf = ({ key }: OptionEntry): unknown => key.inPolicy(key.parse(key.default), () => [])

/** Tells whether an option differs from its default. */
const isGiven = (option: OptionEntry, values: Values): boolean =>
  !isDeepStrictEqual(values[option.member], defaultOf(option))

/** Tells whether a call that is on does anything, which may take an essential option. */
function doesSomething({ options }: CallEntry, values: Values): boolean {
  const essential = options.filter(({ key }) => key.essential)
  return essential.length === 0 || essential.some((option) => isGiven(option, values))
}

/** Tells whether a policy allows what a key is for; `mode` allows nothing. */
export function serves(policy: Policy, name: KeyName): boolean {
  const call = calls.find((each) => each.name === callOf(name))
  const values = call && valuesOf(policy, call)
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

/** Returns the highest real-time priority that a policy gives; undefined if it gives none. */
export const maxPriorityOf = ({ mode, schedSetscheduler }: Policy): number | undefined =>
  mode === 'observe' ? undefined : schedSetscheduler?.maxPriority

/** Tells whether a policy delegates anything to the holders of BPF tokens. */
export const delegates = ({ bpf }: Policy): boolean =>
  bpf !== undefined && delegations.some(({ member }) => bpf[member].size > 0)

export const delegatingNothing = (policy: Policy): Policy => ({
  ...policy,
  ...(policy.bpf
    ? { bpf: { ...policy.bpf, ...Object.fromEntries(delegations.map(({ member }) => [member, new Set()])) } }
    : {}),
})

/** What is left of a policy for an intercede that a user runs, and the keys that are not. */
interface ForUser {
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
  const { mode } = policy
  const left = Object.fromEntries(parts.flatMap(({ member, values }) => (values ? [[member, values]] : [])))
  return {
    policy: mode ? { ...left, mode } : left,
    withheld: parts.flatMap(({ withheld }) => withheld.map(fullName)),
  }
}
