import { errnoName } from '../abi/errno.ts'
import { syscallName } from '../abi/syscalls.ts'
import { explain, type ReasonCode } from '../calls/reason.ts'
import type { CallRecord } from '../calls/record.ts'

/** Limit of distinct refusals: it bounds our memory, since the container chooses the numbers in reasons. */
const KINDS_LIMIT = 100

interface Kind {
  readonly record: CallRecord
  count: number
}

/** Reasons of calls that are left to the kernel by design: a filter traps them as it cannot read memory. */
const ORDINARY: ReadonlySet<ReasonCode> = new Set([
  'kernelMountsIt',
  'changesMounts',
  'foreignContext',
  'foreignMount',
  'contextTold',
  'fuseByMount',
])

const isNoRefusal = ({ verdict, errno, reason }: CallRecord): boolean =>
  verdict === 'gone' || (verdict === 'act' && errno === 0) || (verdict !== 'act' && ORDINARY.has(reason))

/** Collects the refused and continued calls of one `run`: each reason once, with its count and remedy. */
export class Refusals {
  readonly #kinds = new Map<string, Kind>()
  #unnamed = 0

  add(record: CallRecord): void {
    if (isNoRefusal(record)) return
    const { arch, nr, verdict, errno, reason, a, b } = record
    const key = [arch, nr, verdict, errno, reason, a, b].join(':')
    const kind = this.#kinds.get(key)
    if (kind) kind.count++
    else if (this.#kinds.size < KINDS_LIMIT) this.#kinds.set(key, { record, count: 1 })
    else this.#unnamed++
  }

  lines(): string[] {
    const named = [...this.#kinds.values()].map(line)
    return this.#unnamed === 0 ? named : [...named, `${this.#unnamed} more calls for other reasons`]
  }
}

function line({ record, count }: Kind): string {
  const { says, remedy } = explain({ code: record.reason, a: record.a, b: record.b })
  const outcome = record.errno === 0 ? 'left to the kernel' : errnoName(record.errno)
  const name = syscallName(record.arch, record.nr) ?? `system call ${record.nr}`
  const times = count === 1 ? '' : ` ${count} times`
  return `${name} ${outcome}${times}: ${says}${remedy === '' ? '' : `; ${remedy}`}`
}
