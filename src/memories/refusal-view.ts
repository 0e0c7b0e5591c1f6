import { errnoName } from '../abi/errno.ts'
import { explain } from '../calls/reason.ts'
import { callerOf, reasonOf, WORDS } from '../calls/record.ts'
import { spell } from '../calls/spell.ts'
import type { RefusalCount } from './read-counts.ts'
import { type WantedKey, wantedKey } from './wanted-key.ts'

/** A kind of refusals: how often it happened, its last call, and what to change. */
export interface RefusalView {
  readonly count: number
  readonly call: string
  readonly verdict: string
  readonly errno?: string | undefined
  readonly reason: string
  readonly says: string
  readonly remedy: string
  /** The key that would allow the call, if there is one. */
  readonly wants?: WantedKey | undefined
  /** The number, in the container, of the thread that made the last call; absent if it is not known. */
  readonly pid?: number
  /** The name of that thread, escaped as the call is; absent if the caller was not looked at. */
  readonly comm?: string
  /** Milliseconds since 1970. */
  readonly time: number
}

/** Fields that most lists do not show are computed on access: a list of containers needs only the call. */
export function refusalView({ count, record, args, texts }: RefusalCount): RefusalView {
  const { arch, nr, errno, reason, time, verdict } = record
  return {
    ...{ count, reason, time, verdict: WORDS[verdict] },
    ...(errno === 0 ? {} : { errno: errnoName(errno) }),
    ...callerOf(record),
    get call() {
      return spell(arch, nr, { args, texts })
    },
    get says() {
      return explain(reasonOf(record)).says
    },
    get remedy() {
      return explain(reasonOf(record)).remedy
    },
    get wants() {
      return wantedKey(reasonOf(record))
    },
  }
}
