import type { Caller } from '../calls/caller.ts'
import type { Parameter } from '../calls/context.ts'
import { optionsOf } from './mount-options.ts'

/** The invalid id -1, which the kernel refuses (EINVAL) as it would an id that the container does not map. */
const INVALID = '4294967295'
const IDS = ['uid', 'gid'] as const

/**
 * Translates the `uid` and `gid` options of file systems in memory, which are ids of the mounting process's user
 * namespace: here the host's. The container's ids are translated, and the container's root is the default.
 */
export function withHostIds(caller: Pick<Caller, 'hostId'>, parameters: readonly Parameter[]): readonly Parameter[] {
  const translated = parameters.map(([key, value]): Parameter => {
    if (value === undefined) return [key]
    return isId(key) ? [key, hostId(caller, key, value)] : [key, value]
  })
  const missing = IDS.filter((id) => !parameters.some(([key]) => key === id))
  return [...translated, ...missing.map((id): Parameter => [id, hostId(caller, id, '0')])]
}

/** Translates the options of mount(2) likewise. */
export const optionsWithHostIds = (caller: Pick<Caller, 'hostId'>, options = ''): string =>
  withHostIds(caller, optionsOf(options))
    .map((parameter) => parameter.join('='))
    .join(',')

const isId = (key: string): key is (typeof IDS)[number] => key === 'uid' || key === 'gid'

/** Translates a number as the kernel reads it: decimal, octal with 0, hexadecimal with 0x. */
function hostId(caller: Pick<Caller, 'hostId'>, kind: 'uid' | 'gid', text: string): string {
  const id = /^0[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number(text)
  const known = text !== '' && Number.isInteger(id) ? caller.hostId(kind, id) : undefined
  return known === undefined ? INVALID : String(known)
}
