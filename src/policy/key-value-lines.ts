import { briefly } from '../shared/texts.ts'
import { type Place, PolicyError } from './error.ts'
import { expandShort, fullName } from './key.ts'
import { keys, toKeyName } from './keys.ts'

/** Who gave a key its value. */
export interface Origin {
  /** `given` on a command line without a container; `unreadable` is an annotation whose value cannot be read. */
  readonly kind: (typeof ORIGINS)[number] | 'profile' | 'unreadable'
  /** The name of the profile of the configuration. */
  readonly name?: string
}

/** The kinds that are their own words. */
const ORIGINS = [
  'default',
  'configuration',
  'ceiling',
  'metadata',
  'annotation',
  'set',
  'command line',
  'given',
] as const

const UNREADABLE = 'annotation that cannot be read'

/** Says who it was, in the words of the log and of what readers get. */
export function formatOrigin({ kind, name }: Origin): string {
  if (kind === 'profile') return `profile ${name}`
  return kind === 'unreadable' ? UNREADABLE : kind
}

/** The inverse of `formatOrigin`, for readers. What a daemon of another version says is like a default. */
export function parseOrigin(text: string): Origin {
  if (text.startsWith('profile ')) return { kind: 'profile', name: text.slice('profile '.length) }
  if (text === UNREADABLE) return { kind: 'unreadable' }
  return { kind: ORIGINS.find((kind) => kind === text) ?? 'default' }
}

/** A key as somebody gave it; it may be in its short form. */
export type KeyValueLine = readonly [key: string, value: string, origin?: Origin | undefined, place?: Place]

/** Lines as they stand in `listenerMetadata`. */
export interface Lines {
  /** The profile of the configuration that the keys build upon. */
  readonly profile?: { readonly name: string; readonly place?: Place }
  readonly entries: readonly KeyValueLine[]
}

/** Not a key of the table: names a profile of the daemon's configuration, where a key could stand. */
export const PROFILE = fullName('profile')

/**
 * Reads `KEY=VALUE`; a key alone means true. The key comes back in full, known or not.
 *
 * @throws {PolicyError} if a key that is not a boolean stands alone
 */
export function parseAssignment(text: string, place?: Place): readonly [key: string, value: string] {
  const [name = '', ...rest] = text.split('=')
  const full = expandShort(name.trim())
  if (rest.length > 0) return [full, rest.join('=').trim()]
  const key = full === PROFILE ? undefined : keys[toKeyName(full, place)]
  if (key?.default === 'true' || key?.default === 'false') return [full, 'true']
  throw new PolicyError(`${full} has no value`, place, key ? `: allowed is ${key.allowed}` : ': name a profile')
}

type Named = Required<Lines>['profile']

/** @throws {PolicyError} if another profile is named already: the reader would have to guess which is meant */
function only(before: Named | undefined, profile: Named): Named {
  if (before === undefined || before.name === profile.name) return profile
  const names = `${briefly(before.name)} and ${briefly(profile.name)}`
  throw new PolicyError(`two profiles are named, ${names}`, profile.place, '; name one')
}

/** Reads metadata of a container: one `KEY=VALUE` or `profile=NAME` a line, with blank lines and comments. */
export function parseLines(text: string, origin?: Origin): Lines {
  if (text.includes('\0'))
    throw new PolicyError('it has a NUL, at which some programs end a text', {}, '; leave it out')
  const entries: KeyValueLine[] = []
  let profile: Lines['profile']
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue
    const place = { line: index + 1, of: "the container's metadata" }
    const [key, value] = parseAssignment(line, place)
    if (key === PROFILE) profile = only(profile, { name: value, place })
    else entries.push([key, value, origin, place])
  }
  return { entries, ...(profile ? { profile } : {}) }
}

/** The inverse of `parseLines`, with every key in full. */
export function formatLines({ profile, entries }: Lines): string {
  const lines = entries.map(([key, value]) => `${expandShort(key)}=${value}`)
  return [...(profile ? [`profile=${profile.name}`] : []), ...lines].map((line) => `${line}\n`).join('')
}
