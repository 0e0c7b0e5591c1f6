/** In characters: enough to recognise a word, and few enough to see the rest of the sentence. */
const LIMIT = 100

/** Quotes a word that somebody else has chosen, in a sentence; only the beginning of a long word. */
export const briefly = (word = ''): string =>
  word.length <= LIMIT ? JSON.stringify(word) : `${JSON.stringify(word.slice(0, LIMIT))}... (${word.length} characters)`

/** Returns a copy of the beginning of a long text, and says how long the text is. */
export const shortened = (text: string): string =>
  text.length <= LIMIT ? text : `${Buffer.from(text.slice(0, LIMIT))}... (${text.length} characters)`
