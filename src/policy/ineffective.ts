import { callOf, calls } from './key-names.ts'
import type { KeyName } from './keys.ts'
import type { Settings } from './settings.ts'

const isSet = (settings: Settings, key: KeyName): boolean => !['', 'false'].includes(settings.get(key)?.text ?? '')

/**
 * Returns the options of which a call needs one; an option, and a call that does something without options, has none.
 */
const essentialTo = (name: KeyName): readonly KeyName[] =>
  calls
    .filter((call) => call.name === name)
    .flatMap(({ options }) => options.filter(({ key }) => key.essential).map((option) => option.name))

/** Says of each key that was given and does nothing what is missing. @param isMeant selects among the given keys */
export function ineffectiveKeys(
  settings: Settings,
  isMeant: (key: KeyName) => boolean = () => true,
): readonly string[] {
  const isGiven = (key: KeyName): boolean => settings.get(key)!.origin.kind !== 'default' && isSet(settings, key)
  const given = [...settings.keys()].filter((key) => isGiven(key) && isMeant(key))
  return given.flatMap((key) => {
    const call = callOf(key)
    if (!isSet(settings, call)) return [`${key} does nothing without ${call}=true`]
    const oneOf = essentialTo(key)
    if (oneOf.length === 0 || oneOf.some((other) => isSet(settings, other))) return []
    return [`${key} does nothing without ${oneOf.join(' or ')}`]
  })
}
