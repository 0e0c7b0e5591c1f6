import { fullName } from '../../policy/key.ts'
import { formatOrigin } from '../../policy/key-value-lines.ts'
import { type KeyName, keyNames } from '../../policy/keys.ts'
import type { Policy } from '../../policy/policy.ts'
import { defaults, type Setting, type Settings } from '../../policy/settings.ts'
import { callsOf, untrapped } from '../../syscalls/index.ts'
import type { ChangedKeys, KeyState, Traps } from '../process/events.ts'

/** Returns a setting as data for readers and answers. */
export const keyState = ({ text, origin, instead, ...from }: Setting): KeyState => ({
  value: text,
  origin: formatOrigin(origin),
  ...from,
  ...(instead ? { instead: keyState(instead) } : {}),
})

const formatState = ({ value, origin, asked, ceiling, untrapped }: KeyState): string =>
  `${value} (${origin}${asked === undefined ? '' : ` asks for ${asked}, the ceiling is ${ceiling}`})${untrapped ? `, ${untrapped}` : ''}`

/** Formats a setting for the log. */
export const formatSetting = (setting: Setting): string => formatState(keyState(setting))

/** Returns one clause with a key's new and old value. */
export function formatChange(key: string, { is, was }: ChangedKeys[string]): string {
  const [now, before] = [is, was].map((state) => formatState({ ...state, value: state.value || 'nothing' }))
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
    return isUnsure && untrapped(policy, name, new Set()).length > 0 ? 'perhaps not trapped' : ''
  }
  const missing = untrapped(policy, name, traps)
  if (missing.length === 0) return ''
  return missing.length === callsOf(name).length ? 'not trapped' : `but ${missing.join(', ')} not trapped`
}

function stateNow(policy: Policy, name: KeyName, setting: Setting, traps: Traps | undefined): KeyState {
  const untrapped = traps ? untrappedPart(policy, name, setting, traps) : ''
  return { ...keyState(setting), ...(untrapped ? { untrapped } : {}) }
}

/** Lists every key with its value, its origin, and whether the filter traps its calls. */
export const effectiveKeys = (settings: Settings, policy: Policy, traps?: Traps): Readonly<Record<string, string>> =>
  Object.fromEntries(
    [...settings].map(([name, setting]) => [fullName(name), formatState(stateNow(policy, name, setting, traps))]),
  )

/** Lists the changed keys with the old and the new value; undefined if there are none. */
export function changedKeys(
  before: Settings,
  settings: Settings,
  policy: Policy,
  traps: Traps | undefined,
): ChangedKeys | undefined {
  const settingOf = (of: Settings, name: KeyName): Setting => of.get(name) ?? defaults.get(name)!
  const changed = keyNames.filter(
    (name) => formatSetting(settingOf(before, name)) !== formatSetting(settingOf(settings, name)),
  )
  if (changed.length === 0) return undefined
  return Object.fromEntries(
    changed.map((name) => [
      fullName(name),
      { was: keyState(settingOf(before, name)), is: stateNow(policy, name, settingOf(settings, name), traps) },
    ]),
  )
}
