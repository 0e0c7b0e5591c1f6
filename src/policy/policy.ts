import type { CallName, OptionName, Value } from './keys.ts'

/** `max_priority` is `maxPriority` in the policy. */
type Member<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<Member<Rest>>}`
  : Name

/**
 * What may be done for one container, parsed once from `security.syscalls.intercept.*`: a member for each call that is on, such as
 * `mount`, and in it a member for each of its options, such as `nodev`. An absent member means that the call is left to the
 * kernel. Structured-cloneable: it travels to the engine's threads as it is.
 */
export type Policy = {
  readonly [Call in CallName as Member<Call>]?: {
    readonly [Option in OptionName as Option extends `${Call}.${infer Name}` ? Member<Name> : never]: Value<Option>
  }
}
