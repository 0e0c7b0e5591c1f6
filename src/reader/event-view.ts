import { errnoName } from '../abi/errno.ts'
import { syscallName } from '../abi/syscalls.ts'
import { explain } from '../calls/reason.ts'
import { callerOf, reasonOf, WORDS } from '../calls/record.ts'
import { spell } from '../calls/spell.ts'
import type { Entry } from './directory-reader.ts'
import type { FollowedRecord } from './records-follower.ts'

/** A call or an event of the daemon. Texts are not escaped: containers have chosen them. */
export interface EventView {
  /** Where to continue reading, see `EventStream`; absent before the first call, and in the reader's own messages. */
  readonly cursor?: string
  /** Milliseconds since 1970. */
  readonly time: number
  /** call; lost or daemon, from the reader itself; or the type of a keeper's event. */
  readonly type: string
  /** Empty if it concerns no container, or one that is no longer known. */
  readonly container: string
  readonly syscall?: string
  readonly call?: string
  readonly verdict?: string
  readonly errno?: string
  readonly reason?: string
  readonly says?: string
  readonly remedy?: string
  /** The thread's id in the container, and its name, escaped like the call; if they are known. */
  readonly pid?: number
  readonly comm?: string
  readonly tid?: number
  readonly microseconds?: number
  readonly message?: string
}

/** @param container its id, if its serial is known */
export function callEvent(cursor: string, followed: FollowedRecord, container: string): EventView {
  const { record } = followed
  const { arch, nr, errno, verdict, reason, tid, microseconds, time } = record
  const { says, remedy } = explain(reasonOf(record))
  return {
    cursor,
    ...{ time, type: 'call', container, syscall: syscallName(arch, nr) ?? `${nr}`, call: spell(arch, nr, followed) },
    ...{ verdict: WORDS[verdict], ...(errno === 0 ? {} : { errno: errnoName(errno) }), reason, says },
    ...(remedy === '' ? {} : { remedy }),
    ...callerOf(record),
    ...{ tid, microseconds: Math.round(microseconds * 10) / 10 },
  }
}

const SENTENCES: Readonly<Record<string, string>> = {
  registered: 'the container is served from now on',
  resumed: 'the container is served on',
  ended: 'the container has ended',
  engineStarted: 'another engine serves now',
  reloaded: 'the daemon has read its configuration again',
  restarted: 'another process of the daemon serves now',
}

export function daemonEvent({ time, type, id, message, count }: Entry): EventView {
  const lost = `${Number(count)} records were lost before they were logged`
  return {
    ...{ time: Number(time), type: String(type), container: typeof id === 'string' ? id : '' },
    message: typeof message === 'string' ? message : (SENTENCES[String(type)] ?? (count === undefined ? '' : lost)),
  }
}
