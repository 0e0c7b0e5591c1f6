const BACKSLASH = 0x5c
const QUOTE = 0x22

const escapedByte = (byte: number): string =>
  byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`

/** Most texts are printable, and have no backslash. */
const PLAIN = /^[ -[\]-~]*$/

/**
 * Shows a text that a container or runtime has chosen: all but 0x20 to 0x7e as octal numbers, as strace(1) does, so
 * that nothing of it reaches a terminal as it is. A backslash becomes two.
 */
export const escaped = (text: string | Uint8Array): string =>
  typeof text === 'string' && PLAIN.test(text)
    ? text
    : [...Buffer.from(text)].map((byte) => (byte === BACKSLASH ? '\\\\' : escapedByte(byte))).join('')

/** Shows a text in quotes, as an argument. */
export const quoted = (text: Uint8Array): string =>
  `"${[...text].map((byte) => (byte === BACKSLASH || byte === QUOTE ? `\\${String.fromCharCode(byte)}` : escapedByte(byte))).join('')}"`

/** Shows a text that should be escaped already, but comes from somebody who may not have done so. */
export const printable = (text: string): string =>
  text.replaceAll(/[^ -~]/gu, (character) => [...Buffer.from(character)].map(escapedByte).join(''))

/** Members whose texts `spell` and `callerOf` have made, or `explain`: they are escaped already. */
const SPELLED: ReadonlySet<string> = new Set(['call', 'comm', 'lastRefusal', 'note'])

/** Shows the text of a member. Whoever has made it may call any text so. */
export const escapedMember = (name: string, text: string): string =>
  SPELLED.has(name) ? printable(text) : escaped(text)

/** Escapes every text in a value of JSON, also the names of members. */
export function escapedAll(value: unknown): unknown {
  if (typeof value === 'string') return escaped(value)
  if (Array.isArray(value)) return value.map(escapedAll)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      escaped(name),
      typeof member === 'string' ? escapedMember(name, member) : escapedAll(member),
    ]),
  )
}

/** Members that are times, in milliseconds since 1970; texts and counts have other names. */
const TIMES: ReadonlySet<string> = new Set([
  ...['time', 'since', 'ended', 'reloaded', 'engineSince', 'nextEngine', 'lastRefusalTime'],
  ...['countedUntil', 'countedAgain'],
])
const LAST_TIME = 8.64e15

/** Shows a time in ISO 8601. Another daemon may name any number one, which is shown as it is. */
export const isoTime = (ms: number): string | number => (Math.abs(ms) <= LAST_TIME ? new Date(ms).toISOString() : ms)

/** Shows the value of a member if that is a time; undefined if it is not. */
export const timeMember = (name: string, value: unknown): string | number | undefined =>
  typeof value === 'number' && TIMES.has(name) ? isoTime(value) : undefined

/** Returns the JSON that commands and the API show: all texts escaped, and times in ISO 8601. */
export const shownJson = (value: unknown): string =>
  JSON.stringify(escapedAll(value), (name, member: unknown) => timeMember(name, member) ?? member)
