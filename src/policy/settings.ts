import { briefly } from '../shared/texts.ts'
import { type Place, PolicyError } from './error.ts'
import { fullName } from './key.ts'
import { formatOrigin, type KeyValueLine, type Origin } from './key-value-lines.ts'
import { calls, type KeyName, keyNames, keys, toKeyName } from './keys.ts'
import type { Policy } from './policy.ts'
import type { DeviceNames } from './refused-devices.ts'

/** One effective value in its canonical text, and who gave it. */
export interface Setting {
  readonly text: string
  readonly origin: Origin
  /** What the value may be at most; missing where nothing bounds it. */
  readonly ceiling?: string
  /** What the origin asks for, where that is more than the ceiling permits. */
  readonly asked?: string
  /** What would hold without `intercede set`, if that gave the value; no ceiling bounds it. */
  readonly instead?: Pick<Setting, 'text' | 'origin'>
}

/** Every key of the table with its effective value: what a log line shows, and what a policy is made from. */
export type Settings = ReadonlyMap<KeyName, Setting>

export const defaults: Settings = new Map(
  keyNames.map((name) => [name, { text: keys[name].default, origin: { kind: 'default' } }]),
)

/** @throws {PolicyError} naming the key, the value, what is allowed and the line */
function canonical(name: KeyName, value: string, place?: Place): string {
  try {
    return keys[name].canonical(value)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const hint = `: ${error.message}, allowed is ${keys[name].allowed}`
    throw new PolicyError(`${fullName(name)} is ${briefly(value)}`, place, hint)
  }
}

const GIVEN: Origin = { kind: 'given' }
const isSame = (one: Origin, other: Origin): boolean => one.kind === other.kind && one.name === other.name

const withoutSet = ({ text, origin }: Setting): NonNullable<Setting['instead']> => ({ text, origin })

/**
 * Lays entries over settings: later ones override those of another origin.
 *
 * @throws {PolicyError} if one origin gives a key two values, such as by its short and its long name
 */
export function settle(entries: Iterable<KeyValueLine>, base: Settings = defaults): Settings {
  const given = new Map<KeyName, Setting>()
  for (const [key, value, origin = GIVEN, place] of entries) {
    const name = toKeyName(key, place)
    const [before, text] = [given.get(name), canonical(name, value, place)]
    if (before && isSame(before.origin, origin) && before.text !== text) {
      const both = `${briefly(before.text)} and ${briefly(text)}`
      throw new PolicyError(`${fullName(name)} is given twice, as ${both}`, place, '; give it once')
    }
    given.set(name, { text, origin, ...(origin.kind === 'set' ? { instead: withoutSet(base.get(name)!) } : {}) })
  }
  return new Map([...base, ...given])
}

const NOBODY: DeviceNames = () => []

/**
 * Makes the policy that settings mean. The options of a call are checked even while it is off, so that turning it on
 * later cannot fail.
 *
 * @param named what the numbers of devices mean on this host now, where that matters
 * @throws {PolicyError} if keys contradict each other, or a listed device is one that no container may have
 */
export function toPolicy(settings: Settings, named: DeviceNames = NOBODY): Policy {
  const textOf = (name: KeyName): string => settings.get(name)!.text
  const members = calls.map(({ name, member, key, options }) => {
    const values = Object.fromEntries(
      options.map((option) => [option.member, option.key.inPolicy(option.key.parse(textOf(option.name)), named)]),
    )
    key.checkOptions?.(values)
    return { member, values, isOn: key.parse(textOf(name)) }
  })
  const policy = Object.fromEntries(members.filter(({ isOn }) => isOn).map(({ member, values }) => [member, values]))
  return textOf('mode') === 'observe' ? { ...policy, mode: 'observe' } : policy
}

/** @throws {PolicyError} for an unknown key, a bad value or a contradiction */
export const parsePolicy = (entries: Iterable<KeyValueLine>, named?: DeviceNames): Policy =>
  toPolicy(settle(entries), named)

/** Every key in full with its effective value and where that came from, for the log line of a container. */
export const effective = (settings: Settings): readonly (Setting & { readonly key: string })[] =>
  [...settings].map(([name, setting]) => ({ key: fullName(name), ...setting }))

/** What keys may be at most, in canonical text; a key that has no ceiling is missing. */
export type Ceilings = ReadonlyMap<KeyName, string>

function underCeiling(name: KeyName, setting: Setting, ceiling: string | undefined): Setting {
  if (ceiling === undefined) return setting
  const text = keys[name].meet(setting.text, ceiling)
  const { instead } = setting
  return {
    ...{ ...setting, text, ceiling },
    ...(text === setting.text ? {} : { asked: setting.text }),
    ...(instead ? { instead: { ...instead, text: keys[name].meet(instead.text, ceiling) } } : {}),
  }
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
          `${fullName(name)}: ${origin.kind === 'given' ? 'the command line' : formatOrigin(origin)} asks for ${quoted(asked)}, and its ceiling is ${quoted(ceiling)}, so ` +
            `${quoted(text)} holds; lower the one, or raise the other in the configuration`,
        ],
  )

/** @returns why a value may not be given; undefined if its ceiling permits it */
export function aboveCeiling(name: KeyName, text: string, { ceiling }: Setting): string | undefined {
  if (ceiling === undefined || keys[name].lowers(ceiling, text)) return undefined
  return `${fullName(name)}=${text} is above its ceiling ${quoted(ceiling)}; raise "ceiling" in the configuration, then reload`
}
