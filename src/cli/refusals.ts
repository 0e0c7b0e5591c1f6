import { type CallRecord, isRefusal } from '../calls/record.ts'
import { CallKinds, callName, describeKind } from '../keeper/log/call-kinds.ts'
import { counted } from '../shared/texts.ts'

/** Limit of the lines of each group: more than that are read by nobody. */
const KINDS_LIMIT = 100

interface Counted {
  readonly record: CallRecord
  count: number
  /** Whether it was told at once. */
  told: boolean
}

/**
 * The groups of calls, in the order in which they are told: what was refused, or needs something to be done; what the
 * kernel refused to the caller as it would have refused it to root of the host; what was left to the kernel, which may
 * well have done it. Each has room of its own, so that ten thousand of the last push out none of the first.
 */
const GROUPS = [0, 1, 2] as const

function groupOf(record: CallRecord): (typeof GROUPS)[number] {
  const { remedy } = describeKind(record)
  if (remedy !== undefined) return 0
  if (record.reason === 'kernelAnswered') return 1
  return record.errno === 0 ? 2 : 0
}

/** Collects the refused and continued calls of one `run`: each reason once, with its count and remedy. */
export class Refusals {
  readonly #groups = GROUPS.map(
    () =>
      new CallKinds<Counted>(
        KINDS_LIMIT,
        (record) => ({ record, count: 0, told: false }),
        ({ count }) => {
          this.#unnamed += count
        },
      ),
  )
  #unnamed = 0
  /** How many lines may still be told at once: the container chooses the reasons. */
  #linesAtOnce: number

  /** @param atOnce whether new reasons are told at once */
  constructor(atOnce = false) {
    this.#linesAtOnce = atOnce ? KINDS_LIMIT : 0
  }

  /** @returns the line of a reason that is new, if it is to be told at once */
  add(record: CallRecord): string | undefined {
    if (!isRefusal(record)) return undefined
    const kind = this.#groups[groupOf(record)]!.kindOf(record)
    kind.count++
    if (kind.count > 1 || this.#linesAtOnce === 0) return undefined
    this.#linesAtOnce--
    kind.told = true
    return this.#linesAtOnce > 0 ? line(kind) : `${line(kind)}; further reasons are told at the end`
  }

  lines(): string[] {
    const named = this.#groups
      .flatMap(({ all }) => all)
      .filter(({ count, told }) => !told || count > 1)
      .map(line)
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
