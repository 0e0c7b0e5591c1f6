/** Characters that move a cursor, hide or reverse the text after them, or end a line, in a terminal or a log viewer. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu

const unitEscaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`

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
