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

/** ` (did you mean "mount"?)`, or nothing. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const name = suggest(word, known)
  return name === undefined ? '' : ` (did you mean ${JSON.stringify(name)}?)`
}
