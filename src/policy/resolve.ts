import type { Config } from './config.ts'
import { PolicyError } from './error.ts'
import { PREFIX } from './key.ts'
import { toKeyName } from './key-names.ts'
import { type KeyValueLine, type Lines, PROFILE, parseLines } from './key-value-lines.ts'
import { keys } from './keys.ts'
import type { Policy } from './policy.ts'
import type { DeviceNames } from './refused-devices.ts'
import { type Settings, settle, toPolicy } from './settings.ts'
import { didYouMean } from './suggest.ts'

/** What a container brings with it. */
export interface PolicySources {
  /** `listenerMetadata` of the OCI profile, or the LXC cookie: only an administrator can write it. */
  readonly metadata?: string | undefined
  /** Of a pod's author, who is not the administrator. */
  readonly annotations?: Readonly<Record<string, string>> | undefined
}

interface Host {
  readonly config: Config
  readonly named: DeviceNames
}

/** An annotation that was ignored. */
interface Note {
  readonly key: string
  readonly value: string
  readonly why: string
}

export interface ResolvedPolicy {
  readonly settings: Settings
  readonly policy: Policy
  readonly notes: readonly Note[]
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
  throw new PolicyError(`unknown profile ${JSON.stringify(profile.name)}`, profile.place, hint)
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

/** Lays one annotation over what is granted, if it lowers it or may raise it. */
function annotate(
  settings: Settings,
  entry: KeyValueLine,
  { config, named }: Host,
  note: (why: string) => void,
): Settings {
  const name = toKeyName(entry[0])
  const next = settle([entry], settings)
  const lowers = keys[name].lowers(settings.get(name)!.text, next.get(name)!.text)
  if (!lowers && !config.annotations.raise.has(name)) {
    note(`an annotation may only lower this key, which is ${JSON.stringify(settings.get(name)!.text)}`)
    return settings
  }
  toPolicy(next, named)
  return next
}

/**
 * Settles what may be done for one container. Annotations fail closed: one that is not understood, or that asks for
 * more than the administrator gives, is ignored with a note, since its author must not be able to stop the container's
 * other settings from holding.
 *
 * @param named what the numbers of devices mean on this host now
 * @throws {PolicyError} if the administrator's own texts are wrong
 */
export function resolve(
  config: Config,
  { metadata, annotations = {} }: PolicySources,
  named: DeviceNames,
): ResolvedPolicy {
  const host = { config, named }
  const notes: Note[] = []
  const noter = (key: string, value: string) => (why: string) => void notes.push({ key, value, why })
  const lines = parseLines(metadata ?? '', 'metadata')
  const own = granted(config, profileOf(lines, config), lines)
  toPolicy(own, named)

  const { [PROFILE]: wanted, ...rest } = annotations
  let settings = own
  if (wanted !== undefined) settings = choose(host, wanted, lines, own, noter(PROFILE, wanted))
  for (const [key, value] of Object.entries(rest)) {
    if (!key.startsWith(PREFIX)) continue
    const [base, note] = [settings, noter(key, value)]
    settings = orNote(() => annotate(base, [key, value, 'annotation'], host, note), base, note)
  }
  return { settings, policy: toPolicy(settings, named), notes }
}

/** An annotation may choose the profile instead of the metadata, among those that the configuration lists for it. */
function choose(host: Host, name: string, lines: Lines, own: Settings, note: (why: string) => void): Settings {
  const { config, named } = host
  if (!config.annotations.profiles.has(name)) {
    note(`annotations may choose among the profiles: ${[...config.annotations.profiles].join(', ') || 'none'}`)
    return own
  }
  const attempt = () => {
    const settings = granted(config, name, lines)
    toPolicy(settings, named)
    return settings
  }
  return orNote(attempt, own, note)
}
