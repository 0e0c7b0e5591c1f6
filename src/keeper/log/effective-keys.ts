import { fullName } from '../../policy/key.ts'
import { keyNames } from '../../policy/key-names.ts'
import { formatOrigin } from '../../policy/key-value-lines.ts'
import type { KeyName } from '../../policy/keys.ts'
import type { Policy } from '../../policy/policy.ts'
import { defaults, type Setting, type Settings } from '../../policy/settings.ts'
import { callsOf, untrapped } from '../../syscalls/index.ts'
import type { Traps } from '../process/events.ts'

/** A setting as the log shows it. */
export const formatSetting = ({ text, origin, asked, ceiling }: Setting): string =>
  `${text} (${formatOrigin(origin)}${asked === undefined ? '' : ` asks for ${asked}, the ceiling is ${ceiling}`})`

/** Says in one clause what a key is now and was before. @param is and `was`, in the words of `formatSetting` */
export const inWords = (key: string, { is, was }: { readonly is: string; readonly was: string }): string => {
  const [now, before] = [is, was].map((text) => text.replace(/^ \(/, 'nothing ('))
  return `${key}: ${now}, instead of ${before}`
}

/** Tells whether a setting holds for all containers, whatever filter they have, unless something stronger is said. */
export const isOfAll = ({ origin }: Setting): boolean => origin.kind === 'default' || origin.kind === 'configuration'

/** Tells whether the author of the pod gave it. */
export const isOfAnnotation = ({ origin }: Setting): boolean =>
  origin.kind === 'annotation' || origin.kind === 'unreadable'

/** Says of a key that is on what the filter of the container does not trap for it. */
function untrappedPart(policy: Policy, name: KeyName, setting: Setting, traps: Traps): string {
  if (traps === 'unknown') {
    // A profile is made for the keys of its metadata, but nothing keeps a filter and metadata from differing.
    const isUnsure = isOfAll(setting) || isOfAnnotation(setting)
    return isUnsure && untrapped(policy, name, new Set()).length > 0 ? ', perhaps not trapped' : ''
  }
  const missing = untrapped(policy, name, traps)
  if (missing.length === 0) return ''
  return missing.length === callsOf(name).length ? ', not trapped' : `, but ${missing.join(', ')} not trapped`
}

/** Lists every key with its value, who gave it, and whether the filter traps what is served. */
export const effectiveKeys = (settings: Settings, policy: Policy, traps?: Traps): Readonly<Record<string, string>> =>
  Object.fromEntries(
    [...settings].map(([name, setting]) => [
      fullName(name),
      `${formatSetting(setting)}${traps ? untrappedPart(policy, name, setting, traps) : ''}`,
    ]),
  )

/**
 * Lists the keys that have changed, with what was and what is; undefined if there are none.
 *
 * @param keys what is, in the words of `effectiveKeys`
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
