import { type CallRecord, decodeRecord, encodeRecord, RECORD_SIZE, RECORD_WRITER } from '../../calls/record.ts'
import { HEAD, RECORDS_AT, TAIL } from './layout.ts'

/**
 * Where the records lie, and who may be at a place. A writer takes a number by raising HEAD, then the place of that number,
 * and only then writes; so whoever sees that HEAD is at most the size of the ring ahead of a number knows that nobody with a
 * later one has begun to write there, and of two writers with the same place the later one writes or none.
 */
class Ring {
  readonly size: number
  readonly words: Int32Array

  constructor(memory: ArrayBuffer) {
    this.size = (memory.byteLength - RECORDS_AT) / RECORD_SIZE
    this.words = new Int32Array(memory)
  }

  at(sequence: number): number {
    return RECORDS_AT + ((sequence >>> 0) % this.size) * RECORD_SIZE
  }

  /** How many records there are from this one on. */
  behind(sequence: number): number {
    return (Atomics.load(this.words, HEAD) - sequence) | 0
  }

  /** May a later record be written, or be there, in the place of this one? */
  isOvertaken(sequence: number): boolean {
    return this.behind(sequence) > this.size
  }

  /** @returns false if another writer is there, which has stood still for a whole turn of the ring */
  enter(at: number): boolean {
    return Atomics.compareExchange(this.words, (at + RECORD_WRITER) >> 2, 0, 1) === 0
  }

  leave(at: number): void {
    Atomics.store(this.words, (at + RECORD_WRITER) >> 2, 0)
  }
}

/** To be called when nobody writes: those that have ended in a place, with their engine, hold nobody up there. */
export function freePlaces(memory: ArrayBuffer): void {
  const ring = new Ring(memory)
  for (let sequence = 0; sequence < ring.size; sequence++) ring.leave(ring.at(sequence))
}

/** Takes all that is in a journal into a new one whose ring has another size; nobody uses either of them meanwhile. */
export function moveJournal(from: ArrayBuffer, to: ArrayBuffer): void {
  new Uint8Array(to).set(new Uint8Array(from, 0, RECORDS_AT))
  const [before, after] = [new Ring(from), new Ring(to)]
  const words = new Int32Array(from)
  const [head, tail] = [words[HEAD]!, words[TAIL]!]
  for (let unread = Math.min((head - tail) | 0, before.size); unread > 0; unread--) {
    const sequence = (head - unread) | 0
    new Uint8Array(to, after.at(sequence), RECORD_SIZE).set(new Uint8Array(from, before.at(sequence), RECORD_SIZE))
  }
}

/**
 * The writing end of the ring of records, for any number of threads, none of which waits for another. A slow reader loses
 * records, never a call, and so does a writer that stands still while the others go once around the ring.
 */
export class RecordWriter {
  readonly #ring: Ring
  readonly #view: DataView
  readonly #words: Int32Array
  readonly #halfFull: () => void

  /** @param halfFull called when the reader should come now; it also looks once a second by itself */
  constructor(memory: ArrayBuffer, halfFull: () => void) {
    this.#ring = new Ring(memory)
    this.#view = new DataView(memory)
    this.#words = this.#ring.words
    this.#halfFull = halfFull
  }

  write(record: CallRecord): void {
    const sequence = Atomics.add(this.#words, HEAD, 1)
    const at = this.#ring.at(sequence)
    if (this.#ring.enter(at)) {
      if (!this.#ring.isOvertaken(sequence)) {
        encodeRecord(this.#view, at, record)
        Atomics.store(this.#words, at >> 2, (sequence + 1) | 0)
      }
      this.#ring.leave(at)
    }
    if (((sequence - Atomics.load(this.#words, TAIL)) | 0) === this.#ring.size / 2) this.#halfFull()
  }
}

/** The reading end, in one process only. */
export class RecordReader {
  readonly #memory: ArrayBuffer
  readonly #ring: Ring
  readonly #words: Int32Array
  readonly #copy = new DataView(new ArrayBuffer(RECORD_SIZE))
  /** Records that were overwritten before they were read, or that nobody wrote to their end. */
  lost = 0

  constructor(memory: ArrayBuffer) {
    this.#memory = memory
    this.#ring = new Ring(memory)
    this.#words = this.#ring.words
  }

  /**
   * Hands out all records that are complete, oldest first.
   *
   * @param isOver nobody writes any more: what is not complete never will be, and the next engine writes one of that call
   */
  drain(take: (record: CallRecord) => void, isOver = false): void {
    if (isOver) freePlaces(this.#memory)
    const { size } = this.#ring
    let tail = Atomics.load(this.#words, TAIL)
    for (;;) {
      const behind = this.#ring.behind(tail)
      if (behind <= 0) break
      if (behind > size) {
        this.lost += behind - size
        tail = (tail + behind - size) | 0
      }
      const isThere = this.#read(tail)
      // What was overwritten while it was copied is counted in the next round.
      if (this.#ring.isOvertaken(tail)) continue
      // A hole that its writer will fill in a moment; when half the ring lies behind it, the writer is dead.
      if (!isThere && !isOver && behind < size / 2) break
      if (isThere) take(decodeRecord(this.#copy, 0))
      else if (!isOver) this.lost++
      tail = (tail + 1) | 0
    }
    Atomics.store(this.#words, TAIL, tail)
  }

  /**
   * Copies a record if it is there. Word by word: what is read so is read before HEAD is looked at.
   *
   * @returns whether it is there; whole it is if it was not overtaken by then
   */
  #read(sequence: number): boolean {
    const at = this.#ring.at(sequence)
    if (Atomics.load(this.#words, at >> 2) !== ((sequence + 1) | 0)) return false
    for (let byte = 0; byte < RECORD_SIZE; byte += 4)
      this.#copy.setInt32(byte, Atomics.load(this.#words, (at + byte) >> 2), true)
    return true
  }
}
