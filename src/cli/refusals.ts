import { type CallRecord, isRefusal } from '../calls/record.ts'
import { CallKinds, callName, describeKind } from '../keeper/log/call-kinds.ts'
import { byKey, counted } from '../shared/texts.ts'

/** Limit of the lines of each group: more than that are read by nobody. */
const KINDS_LIMIT = 100

/** Limit of the lines of one call and reason, such as of the devices that mdev(8) makes. */
const ALIKE_LIMIT = 10

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
    const named = this.#groups.flatMap(({ all }) => linesOf(all.filter(({ count, told }) => !told || count > 1)))
    return this.#unnamed === 0 ? named : [...named, `${counted(this.#unnamed, 'more call')} of other kinds`]
  }
}

/** Of a call and reason that come with many numbers, the first have lines, and the others are counted. */
function linesOf(kinds: readonly Counted[]): readonly string[] {
  const alike = byKey<Counted>(kinds.map((kind) => [`${whatOf(kind.record)} [${kind.record.reason}]`, kind]))
  const rest = [...alike].map(([what, all]) => [what, all.slice(ALIKE_LIMIT)] as const)
  const left = new Set(rest.flatMap(([, all]) => all))
  return [
    ...kinds.filter((kind) => !left.has(kind)).map(line),
    ...rest
      .filter(([, all]) => all.length > 0)
      .map(([what, all]) => `${what}: ${all.reduce((sum, { count }) => sum + count, 0)} more, with other numbers`),
  ]
}

function line({ record, count }: Counted): string {
  const { says, remedy } = describeKind(record)
  const times = count === 1 ? '' : ` ${count} times`
  return `${whatOf(record)}${times}: ${says}${remedy === undefined ? '' : `; ${remedy}`}`
}

function whatOf(record: CallRecord): string {
  const name = callName(record)
  return `${/^\d/.test(name) ? `system call ${name}` : name} ${describeKind(record).errno ?? 'left to the kernel'}`
}
