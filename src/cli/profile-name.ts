import { createHash } from 'node:crypto'

/**
 * The usual name of a profile, without its ending: one for each set of keys and values, and socket, for the file is the policy
 * of all containers that name it. Keys that are merely turned on say it themselves.
 *
 * @param families the calls that are served, as the policy names them
 * @param keys every given `KEY=VALUE`
 */
export function profileName(families: readonly string[], keys: readonly string[], listener = ''): string {
  const name = families.join('-').toLowerCase()
  const isPlain =
    listener === '' && keys.length === families.length && keys.every((key) => /^[^.]*=true$/.test(short(key)))
  if (isPlain) return name
  const told = [...keys].sort().join('\n')
  return `${name}-${createHash('sha256').update(`${listener}\n${told}`).digest('hex').slice(0, 8)}`
}

const short = (key: string): string => key.replace(/^security\.syscalls\.intercept\./, '')
