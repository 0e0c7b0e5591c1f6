import type { CallName, OptionName, Value } from './keys.ts'

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
}
