// A test that is skipped has the reason at the end of a name, as "… [skipped: not installed: podman]".
const REASON = /\[skipped: ([^\]]*)\]/
// The project `texts` of vitest.config.ts leaves these out.
const IN_WORDS = /in words/

/**
 * Counts skipped tests by their reasons.
 *
 * @param {readonly string[]} names of the tests, with those of what they stand in
 * @returns {readonly string[]} lines such as "12 skipped: not installed: podman", the most frequent reason first
 */
export function skipReasons(names) {
  const counts = new Map()
  for (const name of names) {
    const known = IN_WORDS.test(name) ? 'about words, which are numbers there' : undefined
    const reason = REASON.exec(name)?.[1] ?? known ?? 'for no reason that its name says'
    counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  return [...counts].sort(([, a], [, b]) => b - a).map(([reason, count]) => `${count} skipped: ${reason}`)
}
