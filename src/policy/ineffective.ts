import type { KeyName } from './keys.ts'
import type { Settings } from './settings.ts'

/** Keys that serve nothing without one of others. */
const partners: readonly (readonly [key: KeyName, ...oneOf: KeyName[]])[] = [
  ['mount', 'mount.allowed', 'mount.fuse'],
  ['bpf', 'bpf.devices'],
]

const isSet = (settings: Settings, key: KeyName): boolean => !['', 'false'].includes(settings.get(key)?.text ?? '')

/** What was given and does nothing as it stands, each with what is missing. */
export function ineffectiveKeys(settings: Settings): readonly string[] {
  const given = [...settings.keys()].filter((key) => settings.get(key)!.origin !== 'default' && isSet(settings, key))
  return given.flatMap((key) => {
    const family = key.split('.', 1)[0] as KeyName
    if (!isSet(settings, family)) return [`${key} does nothing without ${family}=true`]
    const [, ...oneOf] = partners.find(([whole]) => whole === key) ?? []
    if (oneOf.length === 0 || oneOf.some((other) => isSet(settings, other))) return []
    return [`${key} does nothing without ${oneOf.join(' or ')}`]
  })
}
