import { errnoName } from '../../abi/errno.ts'
import { syscallName } from '../../abi/syscalls.ts'
import { explain } from '../../calls/reason.ts'
import type { CallRecord } from '../../calls/record.ts'

/** Shortest time between two log lines for calls of the same kind. */
const QUIET_MS = 60_000
/** Limit for one container: it bounds the memory that a container can make the keeper use. */
const KINDS_LIMIT = 256

interface Kind {
  next: number
  suppressed: number
}

/** The fields of a record's log line. */
function describe(record: CallRecord): Readonly<Record<string, unknown>> {
  const { says, remedy } = explain({ code: record.reason, a: record.a, b: record.b })
  return {
    syscall: syscallName(record.arch, record.nr) ?? `${record.nr}`,
    verdict: record.verdict,
    ...(record.errno ? { errno: errnoName(record.errno) } : {}),
    reason: record.reason,
    says,
    ...(remedy ? { remedy } : {}),
  }
}

/** Logs calls: at most one line a minute for each container, call and reason, with the number of suppressed calls. */
export class CallLog {
  readonly #write: (container: string, details: Readonly<Record<string, unknown>>) => void
  readonly #containers = new Map<string, Map<string, Kind>>()

  constructor(write: (container: string, details: Readonly<Record<string, unknown>>) => void) {
    this.#write = write
  }

  add(record: CallRecord, container: string): void {
    const kinds = this.#containers.get(container) ?? new Map<string, Kind>()
    this.#containers.set(container, kinds)
    const key = `${record.arch}:${record.nr}:${record.verdict}:${record.errno}:${record.reason}:${record.a}:${record.b}`
    const kind = kinds.get(key) ?? { next: 0, suppressed: 0 }
    if (kinds.size >= KINDS_LIMIT && !kinds.has(key)) return
    kinds.set(key, kind)
    if (record.time < kind.next) {
      kind.suppressed++
      return
    }
    this.#write(container, { ...describe(record), ...(kind.suppressed ? { since: kind.suppressed } : {}) })
    kind.next = record.time + QUIET_MS
    kind.suppressed = 0
  }

  forget(container: string): void {
    this.#containers.delete(container)
  }
}
