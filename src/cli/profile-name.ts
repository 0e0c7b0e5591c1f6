import { createHash } from 'node:crypto'

/** What a profile depends on beside its keys. */
interface Besides {
  readonly listener?: string | undefined
  /** The profile of the configuration that its metadata names. */
  readonly profile?: string | undefined
}

/**
 * Names a profile, without a file ending. Each set of keys, values and socket has its own name, since the file is the
 * policy of all containers that use it. Without values beyond "true", the name lists the calls and has no hash; a
 * profile of the configuration alone gives its own name.
 *
 * @param families the calls that are served, as the policy names them
 * @param words every line of the metadata, and what else is trapped
 */
export function profileName(
  families: readonly string[],
  words: readonly string[],
  { listener = '', profile }: Besides = {},
): string {
  const isNamed = profile !== undefined && /^\w[\w.+-]{0,99}$/.test(profile)
  const name = profile === undefined ? families.join('-').toLowerCase() : `profile${isNamed ? `-${profile}` : ''}`
  if (listener === '' && isPlain(families, words, isNamed)) return name
  const sorted = [...words].sort().join('\n')
  return `${name}-${createHash('sha256').update(`${listener}\n${sorted}`).digest('hex').slice(0, 8)}`
}

function isPlain(families: readonly string[], words: readonly string[], isNamed: boolean): boolean {
  if (isNamed) return words.length === 1
  return words.length === families.length && words.every((word) => /^[^.]*=true$/.test(short(word)))
}

const short = (key: string): string => key.replace(/^security\.syscalls\.intercept\./, '')
