import { briefly } from '../shared/briefly.ts'
import { type Place, PolicyError } from './error.ts'
import { type CallKey, expandShort, fullName, type OptionKey, PREFIX } from './key.ts'
import { type CallName, type KeyName, keys, type OptionName } from './keys.ts'
import { didYouMean } from './suggest.ts'

export const keyNames = Object.keys(keys) as readonly KeyName[]

/** Returns the key of the call that `name` is an option of, or `name` itself if it is the key of a call. */
export const callOf = (name: KeyName): CallName => name.split('.', 1)[0] as CallName

export interface OptionEntry {
  readonly name: OptionName
  /** The name of the option in the call's member of the policy. */
  readonly member: string
  readonly key: OptionKey<unknown>
}

export interface CallEntry {
  readonly name: CallName
  /** The name of the call in the policy. */
  readonly member: string
  readonly key: CallKey
  readonly options: readonly OptionEntry[]
}

const memberOf = (name: string): string => name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())

const optionsOf = (call: CallName): readonly OptionEntry[] =>
  keyNames
    .filter((name): name is OptionName => name !== call && callOf(name) === call)
    .map((name) => ({ name, member: memberOf(name.slice(call.length + 1)), key: keys[name] as OptionKey<unknown> }))

/** The table of keys once more, with the options of each call below the call. */
export const calls: readonly CallEntry[] = keyNames
  .filter((name): name is CallName => callOf(name) === name)
  .map((name) => ({ name, member: memberOf(name), key: keys[name], options: optionsOf(name) }))

/**
 * Finds the key of the table that a full or short name means.
 *
 * @throws {PolicyError} if there is none
 */
export function toKeyName(name: string, place?: Place): KeyName {
  const full = expandShort(name)
  const short = full.slice(PREFIX.length)
  if (full.startsWith(PREFIX) && Object.hasOwn(keys, short)) return short as KeyName
  throw new PolicyError(
    `unknown key ${briefly(full)}`,
    place,
    didYouMean(full, keyNames.map(fullName)) || '; "intercede profile --help" lists them',
  )
}
