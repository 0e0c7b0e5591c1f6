import { createHash } from 'node:crypto'

/**
 * Names a profile, without a file ending. Each set of keys, values and socket has its own name, since the file is the
 * policy of all containers that use it. Without values beyond "true", the name lists the calls and has no hash.
 *
 * @param families the calls that are served, as the policy names them
 * @param keys every given `KEY=VALUE`
 */
export function profileName(families: readonly string[], keys: readonly string[], listener = ''): string {
  const name = families.join('-').toLowerCase()
  const isPlain =
    listener === '' && keys.length === families.length && keys.every((key) => /^[^.]*=true$/.test(short(key)))
  if (isPlain) return name
  const sorted = [...keys].sort().join('\n')
  return `${name}-${createHash('sha256').update(`${listener}\n${sorted}`).digest('hex').slice(0, 8)}`
}

const short = (key: string): string => key.replace(/^security\.syscalls\.intercept\./, '')
