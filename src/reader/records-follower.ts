import { type CallRecord, decodeRecord, RECORD_SIZE, registersOf, textsIn } from '../calls/record.ts'
import type { SpelledArguments } from '../calls/spell.ts'
import { isEnded, RECORDS_HEADER, recordsBegun, ringId, ringSize } from '../memories/records.ts'
import type { MemoryFile } from './directory-reader.ts'

/** How many records are copied at once. */
export const BATCH = 256

/**
 * One buffer for all followers: each copy is decoded at once. A buffer for each follower would live until garbage
 * collection.
 */
const SCRATCH = [1, 2].map(() => Buffer.allocUnsafeSlow(BATCH * RECORD_SIZE))

/** A record with its number in the ring, and the call's arguments. */
export interface FollowedRecord extends SpelledArguments {
  readonly sequence: number
  readonly record: CallRecord
}

/**
 * Two copies of the same records, one after the other, and how many records were begun after that. The processor may
 * copy the bytes in any order, so only a record that was complete before it was copied is whole. The first copy shows
 * that for the second.
 */
interface Copies {
  readonly before: DataView
  readonly copy: DataView
  readonly begun: number
}

/**
 * Reads records from a ring while others write it. A record is whole only if it was complete before it was copied, and
 * no more records were begun after that than the ring has places from its own number on; all others are counted as
 * lost.
 */
export class RecordsFollower {
  readonly #memory: MemoryFile
  /** How many records the ring holds. */
  readonly size: number
  /** Identifies the ring. */
  readonly id: string
  /** The number of the next record to read. */
  next: number
  lost = 0

  constructor(memory: MemoryFile) {
    this.#memory = memory
    const words = this.#header
    this.size = ringSize(words)
    this.id = ringId(words)
    this.next = recordsBegun(words)
  }

  get #header(): Int32Array {
    return this.#memory.words(0, RECORDS_HEADER / 4)
  }

  /** How many records were begun since the ring was made. */
  get begun(): number {
    return recordsBegun(this.#header)
  }

  /** Whether the daemon has declared that it writes no more records into this ring. */
  get isEnded(): boolean {
    return isEnded(this.#header)
  }

  /** The number of the oldest record that may still be there. */
  get oldest(): number {
    return Math.max(0, this.begun - this.size)
  }

  /**
   * Returns up to `BATCH` records from `next` on; none if there are none yet, or the next one is still being written.
   *
   * @param most the most records to return
   */
  read(most = BATCH): readonly FollowedRecord[] {
    const { begun } = this
    this.#skip(begun - this.size)
    const first = this.next
    const count = Math.min(BATCH, most, begun - first, this.size - (first % this.size))
    if (count <= 0) return []
    const [at, length] = [RECORDS_HEADER + (first % this.size) * RECORD_SIZE, count * RECORD_SIZE]
    const [before, copy] = SCRATCH.map((bytes) => this.#memory.copy(at, length, bytes))
    return this.#take({ before: before!, copy: copy!, begun: this.begun }, first, count)
  }

  /**
   * Skips all except the newest records if too many wait to be read; skipped records are not even copied.
   *
   * @param many how many may wait
   * @param newest how many to keep if more wait
   */
  skipToNewest(many: number, newest: number): void {
    const { begun } = this
    if (begun - this.next > many) this.#skip(begun - newest)
  }

  #take({ before, copy, begun }: Copies, first: number, count: number): readonly FollowedRecord[] {
    const isThere = (at: number, number: number): boolean =>
      before.getInt32(at, true) === number && copy.getInt32(at, true) === number
    const records: FollowedRecord[] = []
    for (let index = 0; index < count; index++) {
      const sequence = first + index
      const at = index * RECORD_SIZE
      if (begun - sequence > this.size) this.lost++
      else if (isThere(at, (sequence + 1) | 0)) {
        const [args, texts] = [registersOf(copy, at), textsIn(copy, at)]
        records.push({ sequence, record: decodeRecord(copy, at), args, texts })
      } else if (begun - sequence < this.size / 2) {
        // Its writer will soon be done. Once half a ring was written after the record, the writer counts as dead.
        this.next = sequence
        return records
      } else this.lost++
    }
    this.next = first + count
    return records
  }

  /** Counts the records before this one as lost. */
  #skip(to: number): void {
    if (this.next >= to) return
    this.lost += to - this.next
    this.next = to
  }
}
