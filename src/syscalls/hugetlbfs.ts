import type { Caller } from '../calls/caller.ts'
import type { Parameter } from '../calls/context.ts'
import { optionsOf } from './mount-options.ts'

/** No id: the kernel refuses it (EINVAL), as it would an id that the container does not map. */
const INVALID = '4294967295'
const IDS = ['uid', 'gid'] as const

/**
 * hugetlbfs belongs to whom its options say, in ids of who mounts it: ours are the host's. What the container says is
 * translated, and where it says nothing its root is meant.
 */
export function withHostIds(caller: Pick<Caller, 'hostId'>, parameters: readonly Parameter[]): readonly Parameter[] {
  const translated = parameters.map(([key, value]): Parameter => {
    if (value === undefined) return [key]
    return isId(key) ? [key, hostId(caller, key, value)] : [key, value]
  })
  const missing = IDS.filter((id) => !parameters.some(([key]) => key === id))
  return [...translated, ...missing.map((id): Parameter => [id, hostId(caller, id, '0')])]
}

/** The same for the options of mount(2). */
export const optionsWithHostIds = (caller: Pick<Caller, 'hostId'>, options = ''): string =>
  withHostIds(caller, optionsOf(options))
    .map((parameter) => parameter.join('='))
    .join(',')

const isId = (key: string): key is (typeof IDS)[number] => key === 'uid' || key === 'gid'

/** Numbers as the kernel reads them: decimal, octal with 0, hexadecimal with 0x. */
function hostId(caller: Pick<Caller, 'hostId'>, kind: 'uid' | 'gid', text: string): string {
  const id = /^0[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number(text)
  const known = text !== '' && Number.isInteger(id) ? caller.hostId(kind, id) : undefined
  return known === undefined ? INVALID : String(known)
}
