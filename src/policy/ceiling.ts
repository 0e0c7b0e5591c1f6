import { fullName } from './key.ts'
import { formatOrigin } from './key-value-lines.ts'
import { type KeyName, keys } from './keys.ts'
import type { Setting, Settings } from './settings.ts'

/** What keys may be at most, in canonical text; a key that has no ceiling is missing. */
export type Ceilings = ReadonlyMap<KeyName, string>

function underCeiling(name: KeyName, setting: Setting, ceiling: string | undefined): Setting {
  if (ceiling === undefined) return setting
  const text = keys[name].meet(setting.text, ceiling)
  return { ...setting, text, ceiling, ...(text === setting.text ? {} : { asked: setting.text }) }
}

/** Lowers each setting that is more than its ceiling, or not to be compared with it, to what both permit. */
export const clamp = (settings: Settings, ceilings: Ceilings): Settings =>
  new Map([...settings].map(([name, setting]) => [name, underCeiling(name, setting, ceilings.get(name))]))

const quoted = (text: string): string => JSON.stringify(text)

/** Says of each setting that was lowered to its ceiling who asked for more, and what holds. */
export const clamped = (settings: Settings): readonly string[] =>
  [...settings].flatMap(([name, { text, origin, ceiling = '', asked }]) =>
    asked === undefined || origin.kind === 'default'
      ? []
      : [
          `${fullName(name)}: ${formatOrigin(origin)} asks for ${quoted(asked)}, and its ceiling is ${quoted(ceiling)}, so ` +
            `${quoted(text)} holds; lower the one, or raise the other in the configuration`,
        ],
  )

/** @returns why a value may not be given; undefined if its ceiling permits it */
export function aboveCeiling(name: KeyName, text: string, { ceiling }: Setting): string | undefined {
  if (ceiling === undefined || keys[name].lowers(ceiling, text)) return undefined
  return `${fullName(name)}=${text} is above its ceiling ${quoted(ceiling)}; raise "ceiling" in the configuration, then reload`
}
