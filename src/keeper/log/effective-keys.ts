import { fullName } from '../../policy/key.ts'
import { formatOrigin } from '../../policy/key-value-lines.ts'
import { type KeyName, keyNames } from '../../policy/keys.ts'
import type { Policy } from '../../policy/policy.ts'
import { defaults, type Setting, type Settings } from '../../policy/settings.ts'
import { callsOf, untrapped } from '../../syscalls/index.ts'
import type { Traps } from '../process/events.ts'

/** Formats a setting for the log. */
export const formatSetting = ({ text, origin, asked, ceiling }: Setting): string =>
  `${text} (${formatOrigin(origin)}${asked === undefined ? '' : ` asks for ${asked}, the ceiling is ${ceiling}`})`

/**
 * Returns one clause with a key's new and old value. @param is the new value, and `was` the old one, as `formatSetting`
 * formats them
 */
export const formatChange = (key: string, { is, was }: { readonly is: string; readonly was: string }): string => {
  const [now, before] = [is, was].map((text) => text.replace(/^ \(/, 'nothing ('))
  return `${key}: ${now}, instead of ${before}`
}

/** Returns whether a setting is a default for all containers, whatever filter they have. */
export const isOfAll = ({ origin }: Setting): boolean => origin.kind === 'default' || origin.kind === 'configuration'

/** Returns whether the author of the pod set it. */
export const isOfAnnotation = ({ origin }: Setting): boolean =>
  origin.kind === 'annotation' || origin.kind === 'unreadable'

/** Returns which calls of an enabled key the container's filter does not trap. */
function untrappedPart(policy: Policy, name: KeyName, setting: Setting, traps: Traps): string {
  if (traps === 'unknown') {
    // A profile is made for the keys of its metadata, but nothing prevents a filter and metadata from differing.
    const isUnsure = isOfAll(setting) || isOfAnnotation(setting)
    return isUnsure && untrapped(policy, name, new Set()).length > 0 ? ', perhaps not trapped' : ''
  }
  const missing = untrapped(policy, name, traps)
  if (missing.length === 0) return ''
  return missing.length === callsOf(name).length ? ', not trapped' : `, but ${missing.join(', ')} not trapped`
}

/** Lists every key with its value, its origin, and whether the filter traps its calls. */
export const effectiveKeys = (settings: Settings, policy: Policy, traps?: Traps): Readonly<Record<string, string>> =>
  Object.fromEntries(
    [...settings].map(([name, setting]) => [
      fullName(name),
      `${formatSetting(setting)}${traps ? untrappedPart(policy, name, setting, traps) : ''}`,
    ]),
  )

/**
 * Lists the changed keys with the old and the new value; undefined if there are none.
 *
 * @param keys the new values, as `effectiveKeys` formats them
 */
export function changedKeys(
  before: Settings,
  settings: Settings,
  keys: Readonly<Record<string, string>>,
): Readonly<Record<string, { readonly was: string; readonly is: string }>> | undefined {
  const textOf = (of: Settings, name: KeyName): string => formatSetting(of.get(name) ?? defaults.get(name)!)
  const changed = keyNames.filter((name) => textOf(before, name) !== textOf(settings, name))
  if (changed.length === 0) return undefined
  return Object.fromEntries(
    changed.map((name) => [fullName(name), { was: textOf(before, name), is: keys[fullName(name)]! }]),
  )
}
