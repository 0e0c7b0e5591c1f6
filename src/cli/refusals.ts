import type { CallRecord } from '../calls/record.ts'
import { CallKinds, callName, describeKind, isRefusal } from '../keeper/log/call-kinds.ts'
import { counted } from '../policy/counted.ts'

/** Limit of distinct refusals: more lines than that are read by nobody. */
const KINDS_LIMIT = 100

interface Counted {
  readonly record: CallRecord
  count: number
}

/** Collects the refused and continued calls of one `run`: each reason once, with its count and remedy. */
export class Refusals {
  readonly #kinds = new CallKinds<Counted>(
    KINDS_LIMIT,
    (record) => ({ record, count: 0 }),
    ({ count }) => {
      this.#unnamed += count
    },
  )
  #unnamed = 0

  add(record: CallRecord): void {
    if (isRefusal(record)) this.#kinds.of(record).count++
  }

  lines(): string[] {
    const named = this.#kinds.all.map(line)
    return this.#unnamed === 0 ? named : [...named, `${counted(this.#unnamed, 'more call')} for other reasons`]
  }
}

function line({ record, count }: Counted): string {
  const { says, remedy, errno } = describeKind(record)
  const name = callName(record)
  const times = count === 1 ? '' : ` ${count} times`
  const what = /^\d/.test(name) ? `system call ${name}` : name
  return `${what} ${errno ?? 'left to the kernel'}${times}: ${says}${remedy === undefined ? '' : `; ${remedy}`}`
}
