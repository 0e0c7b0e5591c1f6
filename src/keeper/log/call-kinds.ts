import { errnoName } from '../../abi/errno.ts'
import { syscallName } from '../../abi/syscalls.ts'
import { explain, type ReasonCode } from '../../calls/reasons.ts'
import { type CallRecord, kindOf, reasonOf } from '../../calls/record.ts'

/** The name of the system call of a record, or its number. */
export const callName = ({ arch, nr }: CallRecord): string => syscallName(arch, nr) ?? `${nr}`

/** The text for all calls of a kind, in the order of a log line. */
interface KindDescription {
  readonly errno?: string
  readonly reason: ReasonCode
  readonly says: string
  readonly remedy?: string
}

export function describeKind(record: CallRecord): KindDescription {
  const { errno, reason } = record
  const { says, remedy } = explain(reasonOf(record))
  return { ...(errno ? { errno: errnoName(errno) } : {}), reason, says, ...(remedy ? { remedy } : {}) }
}

interface Kind<T> {
  readonly is: readonly number[]
  /** Kinds are listed in the order in which they came. */
  readonly serial: number
  readonly of: T
}

/** The place of a kind in the table: FNV-1a of 32-bit words. */
const placeOf = (is: readonly number[]): number =>
  is.reduce((sum, each) => Math.imul(sum ^ each, 0x0100_0193), 0x811c_9dc5 | 0)

const isSame = (one: readonly number[], other: readonly number[]): boolean =>
  one.every((each, index) => each === other[index])

/**
 * Groups calls by their kind. The number of kinds is bounded, because a container chooses the numbers in its reasons. A
 * new kind replaces the least recently seen kind, or the kind that happens to have the same place.
 */
export class CallKinds<T> {
  readonly #limit: number
  readonly #make: (record: CallRecord) => T
  readonly #leave: (of: T) => void
  /** The least recently seen kind comes first. */
  readonly #kinds = new Map<number, Kind<T>>()
  #serial = 0

  /**
   * @param make makes the entry of a new kind @param leave called with the entry of a kind that makes room
   */
  constructor(limit: number, make: (record: CallRecord) => T, leave: (of: T) => void) {
    this.#limit = limit
    this.#make = make
    this.#leave = leave
  }

  /** Finds the entry of a call's kind, which then is the most recently seen kind. */
  kindOf(record: CallRecord): T {
    const is = kindOf(record)
    const place = placeOf(is)
    const there = this.#kinds.get(place)
    const kind = there && isSame(there.is, is) ? there : this.#new(record, is, place)
    this.#kinds.delete(place)
    this.#kinds.set(place, kind)
    return kind.of
  }

  get all(): readonly T[] {
    return [...this.#kinds.values()].sort((one, other) => one.serial - other.serial).map(({ of }) => of)
  }

  #new(record: CallRecord, is: readonly number[], place: number): Kind<T> {
    const [oldest] = this.#kinds.keys()
    if (this.#kinds.has(place)) this.#drop(place)
    else if (this.#kinds.size >= this.#limit && oldest !== undefined) this.#drop(oldest)
    return { is, serial: this.#serial++, of: this.#make(record) }
  }

  #drop(place: number): void {
    this.#leave(this.#kinds.get(place)!.of)
    this.#kinds.delete(place)
  }
}
