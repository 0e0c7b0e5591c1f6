import { briefly, didYouMean } from '../shared/texts.ts'
import type { Config } from './config.ts'
import { PolicyError } from './error.ts'
import { PREFIX } from './key.ts'
import { type KeyValueLine, type Lines, PROFILE, parseLines } from './key-value-lines.ts'
import { type KeyName, keys, toKeyName } from './keys.ts'
import type { Policy } from './policy.ts'
import type { DeviceNames } from './refused-devices.ts'
import { clamp, type Settings, settle, toPolicy } from './settings.ts'

/** What a container brings with it. */
export interface PolicySources {
  /** `listenerMetadata` of the OCI profile, or the LXC cookie: only an administrator can write it. */
  readonly metadata?: string | undefined
  /** Of a pod's author, who is not the administrator. */
  readonly annotations?: Readonly<Record<string, string>> | undefined
  /** What an administrator has set while the container runs. */
  readonly set?: readonly KeyValueLine[] | undefined
}

/** In characters, of the value of an annotation. A longer value counts as one that cannot be read. */
export const VALUE_LIMIT = 4096

interface Notes {
  readonly ignored: Note[]
  readonly lowered: Note[]
}

interface Host {
  readonly config: Config
  readonly named: DeviceNames
}

/** An annotation that did not do what it says. */
export interface Note {
  readonly key: string
  readonly value: string
  readonly why: string
}

export interface ResolvedPolicy {
  readonly settings: Settings
  readonly policy: Policy
  /** The profile that the metadata or an annotation has chosen; undefined if there is none. */
  readonly profile: string | undefined
  /** Annotations that were ignored, and what was set and contradicts the rest by now. */
  readonly notes: readonly Note[]
  /** Annotations whose value cannot be read: their keys have the lowest value. */
  readonly lowered: readonly Note[]
}

/** The administrator's word: the configuration's default, a profile, the keys of the metadata; strongest last. */
function granted(config: Config, profile: string | undefined, metadata: Lines): Settings {
  const chosen = profile === undefined ? [] : (config.profiles.get(profile) ?? [])
  return settle([...config.default, ...chosen, ...metadata.entries])
}

/** @throws {PolicyError} if the metadata names a profile that the configuration lacks: it was meant to hold */
function profileOf({ profile }: Lines, { profiles }: Config): string | undefined {
  if (profile === undefined || profiles.has(profile.name)) return profile?.name
  const hint = didYouMean(profile.name, profiles.keys())
  throw new PolicyError(`unknown profile ${briefly(profile.name)}`, profile.place, hint)
}

/** Runs `attempt`; a PolicyError of a container author's text is a note and changes nothing. */
function orNote<T>(attempt: () => T, unchanged: T, note: (why: string) => void): T {
  try {
    return attempt()
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    note(error.message)
    return unchanged
  }
}

/** Lays one annotation that can be read over what is granted, if it lowers it or may raise it. */
function annotate(settings: Settings, next: Settings, name: KeyName, { config, named }: Host): Settings | string {
  const { text } = settings.get(name)!
  const lowers = keys[name].lowers(text, next.get(name)!.text)
  if (!lowers && !config.annotations.raise.has(name))
    return `an annotation may only lower this key, which is ${JSON.stringify(text)}`
  toPolicy(next, named)
  return next
}

/**
 * Lays one annotation over what is granted. If its key is known and its value cannot be read, the key gets the lowest
 * value, since an author who mistypes a lowering relies on it.
 */
function lay(settings: Settings, [key, value]: readonly [string, string], host: Host, notes: Notes): Settings {
  const ignore = (why: string): void => void notes.ignored.push({ key, value, why })
  const name = orNote(() => toKeyName(key), undefined, ignore)
  if (name === undefined) return settings
  const lower = (why: string): void => void notes.lowered.push({ key, value, why })
  if (value.length > VALUE_LIMIT) lower(`a value has at most ${VALUE_LIMIT} characters`)
  const next =
    value.length > VALUE_LIMIT
      ? undefined
      : orNote(() => settle([[key, value, { kind: 'annotation' }]], settings), undefined, lower)
  if (next === undefined) return settle([[key, keys[name].lowest, { kind: 'unreadable' }]], settings)
  const laid = orNote(() => annotate(settings, next, name, host), settings, ignore)
  if (typeof laid !== 'string') return laid
  ignore(laid)
  return settings
}

/**
 * Settles what may be done for one container. Annotations fail closed: one of an unknown key, or that asks for
 * more than the administrator gives, is ignored with a note, since its author must not be able to stop the container's
 * other settings from holding; one whose value cannot be read switches its key off.
 *
 * @param named what the numbers of devices mean on this host now
 * @throws {PolicyError} if the administrator's own texts are wrong
 */
export function resolve(
  config: Config,
  { metadata, annotations = {}, set = [] }: PolicySources,
  named: DeviceNames,
): ResolvedPolicy {
  const host = { config, named }
  const notes: Notes = { ignored: [], lowered: [] }
  const lines = parseLines(metadata ?? '', { kind: 'metadata' })
  const granting = profileOf(lines, config)
  const own = granted(config, granting, lines)
  toPolicy(own, named)

  const { [PROFILE]: wanted, ...rest } = annotations
  const ignore = (why: string): void => void notes.ignored.push({ key: PROFILE, value: wanted!, why })
  const chosen = wanted === undefined ? undefined : choose(host, wanted, lines, ignore)
  let settings = chosen ?? own
  const asked = Object.entries(rest).filter(([key]) => key.startsWith(PREFIX))
  for (const entry of lessFirst(asked, settings)) settings = lay(settings, entry, host, notes)
  settings = clamp(laySet(settings, set, host, notes), config.ceiling)
  const { ignored, lowered } = notes
  const profile = chosen ? wanted : granting
  return { settings, policy: toPolicy(settings, named), profile, notes: ignored, lowered }
}

const UNNOTED = (): void => {}

/** Orders lines so that those that take something away come first: what is given may contradict what they take. */
function lessFirst<Line extends KeyValueLine>(lines: readonly Line[], settings: Settings): readonly Line[] {
  const lowers = ([key, value]: Line): boolean => {
    const name = orNote(() => toKeyName(key), undefined, UNNOTED)
    if (name === undefined) return false
    try {
      return keys[name].lowers(settings.get(name)!.text, keys[name].canonical(value))
    } catch {
      // One that cannot be read takes all.
      return true
    }
  }
  return [...lines.filter(lowers), ...lines.filter((line) => !lowers(line))]
}

/**
 * Lays what was set over the rest. After a reload a part of it may contradict a profile: then the profile holds, and
 * the other parts stay, first of all those that take something away.
 */
function laySet(settings: Settings, set: readonly KeyValueLine[], { named }: Host, notes: Notes): Settings {
  if (set.length === 0) return settings
  const laid = (lines: readonly KeyValueLine[], onto: Settings): Settings => {
    const next = settle(lines, onto)
    toPolicy(next, named)
    return next
  }
  const whole = orNote(() => laid(set, settings), undefined, UNNOTED)
  if (whole) return whole
  return lessFirst(set, settings).reduce(
    (onto, line) =>
      orNote(
        () => laid([line], onto),
        onto,
        (why) => notes.ignored.push({ key: line[0], value: line[1], why }),
      ),
    settings,
  )
}

/** An annotation may choose the profile instead of the metadata, among those that the configuration lists for it. */
function choose(
  { config, named }: Host,
  name: string,
  lines: Lines,
  note: (why: string) => void,
): Settings | undefined {
  if (!config.annotations.profiles.has(name)) {
    note(`annotations may choose among the profiles: ${[...config.annotations.profiles].join(', ') || 'none'}`)
    return undefined
  }
  const attempt = () => {
    const settings = granted(config, name, lines)
    toPolicy(settings, named)
    return settings
  }
  return orNote(attempt, undefined, note)
}
