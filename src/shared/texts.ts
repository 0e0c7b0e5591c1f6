/** In characters: enough to recognise a word, and few enough to see the rest of the sentence. */
const LIMIT = 100

/** Quotes a word that somebody else has chosen, in a sentence; only the beginning of a long word. */
export const briefly = (word = ''): string =>
  word.length <= LIMIT ? JSON.stringify(word) : `${JSON.stringify(word.slice(0, LIMIT))}... (${word.length} characters)`

/** Returns a copy of the beginning of a long text, and says how long the text is. */
export const shortened = (text: string): string =>
  text.length <= LIMIT ? text : `${Buffer.from(text.slice(0, LIMIT))}... (${text.length} characters)`

/** How much of an id engines print, in characters: they have 64, and people type these. */
const SHORT_ID = 12

export const shortenedId = (id: string): string => (/^[0-9a-f]{64}$/.test(id) ? id.slice(0, SHORT_ID) : id)

/** Characters that move a cursor, hide or reverse the text after them, or end a line, in a terminal or a log viewer. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu

const unitEscaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`

/** Formats a value as JSON in ASCII: no text in it reaches a terminal unescaped. */
export const asciiJson = (value: unknown): string => JSON.stringify(value).replace(/[\u007f-\uffff]/g, unitEscaped)

const escaped = (character: string): string => {
  const json = JSON.stringify(character).slice(1, -1)
  if (json !== character) return json
  return character.split('').map(unitEscaped).join('')
}

/**
 * Formats a text as one line: arguments, file names or programs in a container may have put anything into it. JSON
 * stays JSON.
 */
export const oneLine = (text: string): string => text.trim().replaceAll(UNSEEN, escaped)

/** A number with its noun: "1 container", "2 containers". */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`

/** How many letters have to be inserted, removed or changed to make `b` of `a` (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) {
      const changed = row[j]! + (letter === b[j] ? 0 : 1)
      next.push(Math.min(changed, row[j + 1]! + 1, next[j]! + 1))
    }
    row = next
  }
  return row[b.length]!
}

/** The known word that `word` was probably meant to be: two slips of the finger, not more. */
function suggest(word: string, known: Iterable<string>): string | undefined {
  const near = [...known].map((name) => ({ name, far: distance(word, name) })).filter(({ far }) => far <= 2)
  return near.sort((a, b) => a.far - b.far)[0]?.name
}

/** The most names in a sentence. */
const NAMED = 5

/** Lists names, the first ones if there are many: `a, b, c, d, e and 3 more`. */
export const fewOf = (names: readonly string[]): string =>
  names.slice(0, NAMED).join(', ') + (names.length > NAMED ? ` and ${names.length - NAMED} more` : '')

/** ` (did you mean "mount"?)`, or nothing. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const name = suggest(word, known)
  return name === undefined ? '' : ` (did you mean ${JSON.stringify(name)}?)`
}

/**
 * Quotes a word for a shell, if it must be. The quotes have no backslash: where a text is printed each becomes two, and
 * a word of a container's would end before its end.
 */
export const shellWord = (word: string): string =>
  /^[\w./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`

/** Returns the first items, as many as fit into `room` together. */
export function firstFitting<T>(items: readonly T[], room: number, sizeOf: (item: T) => number): readonly T[] {
  let size = 0
  for (let index = 0; index < items.length; index++) {
    size += sizeOf(items[index]!)
    if (size > room) return items.slice(0, index)
  }
  return items
}

/** Groups what comes by a key, in the order in which the keys come first. */
export function byKey<T = string>(all: Iterable<readonly [key: string, of: T]>): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>()
  for (const [key, of] of all) {
    const group = groups.get(key)
    if (group) group.push(of)
    else groups.set(key, [of])
  }
  return groups
}
