/** Characters that move a cursor, hide or turn what follows, or end a line: in a terminal, or in a reader of logs. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu

const unitEscaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`

const escaped = (character: string): string => {
  const json = JSON.stringify(character).slice(1, -1)
  if (json !== character) return json
  return character.split('').map(unitEscaped).join('')
}

/**
 * Shows a text on one line: an argument, a file name or a program in a container may have put anything into it. JSON
 * stays JSON.
 */
export const oneLine = (text: string): string => text.trim().replaceAll(UNSEEN, escaped)
