import { errnoName } from '../abi/errno.ts'
import { explain } from '../calls/reason.ts'
import { reasonOf, WORDS } from '../calls/record.ts'
import { spell } from '../calls/spell.ts'
import type { RefusalCount } from './read-counts.ts'
import { type WantedKey, wantedKey } from './wanted-key.ts'

/** A kind of refusals: how often it happened, the last call of it, and what to change. */
export interface RefusalView {
  readonly count: number
  readonly call: string
  readonly verdict: string
  readonly errno?: string
  readonly reason: string
  readonly says: string
  readonly remedy: string
  /** The key that would allow the call, if one would. */
  readonly wants?: WantedKey
  /** Milliseconds since 1970. */
  readonly time: number
}

export function refusalView({ count, record, args, texts }: RefusalCount): RefusalView {
  const { says, remedy } = explain(reasonOf(record))
  const wants = wantedKey(reasonOf(record))
  const call = spell(record.arch, record.nr, { args, texts })
  const errno = record.errno === 0 ? {} : { errno: errnoName(record.errno) }
  return {
    count,
    call,
    verdict: WORDS[record.verdict],
    ...errno,
    reason: record.reason,
    says,
    remedy,
    ...(wants ? { wants } : {}),
    time: record.time,
  }
}
