import {
  type CallRecord,
  CODES,
  decodeRecord,
  encodeArguments,
  encodeRecord,
  forgetArguments,
  RECORD_FIXED,
  RECORD_SIZE,
  RECORD_WRITER,
  type RecordedArguments,
  registersOf,
  textsIn,
} from '../calls/record.ts'
import type { SpelledArguments } from '../calls/spell.ts'
import { randomBytes } from '../kernel/system-info.ts'
import type { ArgumentMode } from '../policy/config.ts'
import { CACHE_LINE, struct } from '../shared/words.ts'

const [WORD] = struct({
  head: CACHE_LINE,
  tail: CACHE_LINE,
  halfTurns: CACHE_LINE,
  layout: 1,
  recordSize: 1,
  records: 1,
  id: 2,
  ended: 1,
  codes: 1,
})

/** The sequence number of the next record, modulo 2^32: writers raise it. */
const HEAD = WORD.head
/** The sequence number of the next record that the keeper reads, modulo 2^32. */
const TAIL = WORD.tail
/** How often HEAD has reached a multiple of 2^31, see `recordsBegun`. */
const HALF_TURNS = WORD.halfTurns

/** The number of the layout of header and records; raise it with every change, since other versions cannot be read. */
export const RECORDS_LAYOUT = 4
export const RECORDS_HEADER = 4096

/**
 * Returns the size in bytes of the memory of records.
 *
 * @param records capacity of the ring; a power of two, for sequences wrap at 2^32
 */
export const recordsSize = (records: number): number => RECORDS_HEADER + records * RECORD_SIZE

/** Makes a ring of new, zeroed memory. */
export function formatRecords(memory: ArrayBuffer): void {
  const words = new Int32Array(memory)
  words[WORD.layout] = RECORDS_LAYOUT
  words[WORD.recordSize] = RECORD_SIZE
  words[WORD.codes] = CODES
  words[WORD.records] = (memory.byteLength - RECORDS_HEADER) / RECORD_SIZE
  new Uint8Array(memory).set(randomBytes(8), 4 * WORD.id)
}

/** Returns whether `memory` is a ring that we can read and write. */
export function isRecords(memory: ArrayBuffer): boolean {
  if (memory.byteLength < RECORDS_HEADER) return false
  const words = new Int32Array(memory, 0, RECORDS_HEADER / 4)
  const isOurs = words[WORD.layout] === RECORDS_LAYOUT && words[WORD.recordSize] === RECORD_SIZE
  return isOurs && words[WORD.codes] === CODES && memory.byteLength === recordsSize(words[WORD.records]!)
}

/** Identifies a ring, so that the number of a record can be told from the same number in another ring. */
export const ringId = (words: Int32Array): string =>
  [words[WORD.id]!, words[WORD.id + 1]!].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('')

/** Returns how many records a ring holds. */
export const ringSize = (words: Int32Array): number => words[WORD.records]!

/** Marks a ring into which nothing is written any more: its readers look for the next ring. */
export const endRecords = (memory: ArrayBuffer): number => Atomics.store(new Int32Array(memory), WORD.ended, 1)
/** Removes the mark: the next keeper continues with the ring. */
export const reviveRecords = (memory: ArrayBuffer): number => Atomics.store(new Int32Array(memory), WORD.ended, 0)
export const isEnded = (words: Int32Array): boolean => Atomics.load(words, WORD.ended) === 1

/** Gives a new ring the numbers of the ring that it replaces, so that cursors stay valid. */
function copyNumbers(from: Int32Array, to: Int32Array): void {
  for (const word of [HEAD, TAIL, HALF_TURNS, WORD.id, WORD.id + 1]) to[word] = from[word]!
}

/**
 * Counts half a turn of the numbers. To be called by whoever draws a sequence number that is a multiple of 2^31. Each
 * count differs from the one before in parity, so the end of a writer between its draw and this call does no harm.
 */
function countHalfTurn(words: Int32Array, sequence: number): void {
  const half = Atomics.load(words, HALF_TURNS)
  Atomics.store(words, HALF_TURNS, half + (isCounted(half, sequence) ? 2 : 1))
}

/** Returns whether a count of half turns is that of a sequence number: 1 is the first half of the first turn. */
const isCounted = (half: number, sequence: number): boolean => ((half + 1) & 1) === sequence >>> 31

/** Returns how many records were begun since the ring was made: the sequence number of the next record, in 64 bits. */
export function recordsBegun(words: Int32Array): number {
  // In this order: a writer that draws a number counts its half turn later, never before.
  const half = Atomics.load(words, HALF_TURNS)
  const head = Atomics.load(words, HEAD)
  const halfTurns = isCounted(half, head) ? half - 1 : half
  return (halfTurns >> 1) * 2 ** 32 + (head >>> 0)
}

const HALF_TURN_MASK = 0x7fff_ffff

/**
 * Maps sequence numbers to places of the ring, and lets one writer at a time into a place.
 *
 * Invariant: a writer raises HEAD to draw its sequence number, then enters the place of that number, and only then
 * writes. So while HEAD is at most `size` ahead of a number, no writer with a later number has begun to write in its
 * place; and of two writers with the same place, the later one writes or none does.
 */
class Ring {
  readonly size: number
  readonly words: Int32Array

  constructor(memory: ArrayBuffer) {
    this.size = (memory.byteLength - RECORDS_HEADER) / RECORD_SIZE
    this.words = new Int32Array(memory)
  }

  at(sequence: number): number {
    return RECORDS_HEADER + ((sequence >>> 0) % this.size) * RECORD_SIZE
  }

  /** Returns how many records were begun from `sequence` on. */
  behind(sequence: number): number {
    return (Atomics.load(this.words, HEAD) - sequence) | 0
  }

  /** Returns whether a later record may be, or may be about to be, in the place of this record. */
  isOvertaken(sequence: number): boolean {
    return this.behind(sequence) > this.size
  }

  /**
   * Enters a place.
   *
   * @returns false if another writer, which has not run for a whole turn of the ring, is still in it
   */
  enter(at: number): boolean {
    return Atomics.compareExchange(this.words, (at + RECORD_WRITER) >> 2, 0, 1) === 0
  }

  leave(at: number): void {
    Atomics.store(this.words, (at + RECORD_WRITER) >> 2, 0)
  }
}

/** Frees the places in which writers died with their engine. Precondition: no thread writes. */
export function freePlaces(memory: ArrayBuffer): void {
  const ring = new Ring(memory)
  const used = Math.min(recordsBegun(ring.words), ring.size)
  for (let place = 0; place < used; place++) ring.leave(ring.at(place))
}

/** Erases arguments of calls in records that a mode does not allow. Precondition: no thread writes. */
export function forgetRecorded(memory: ArrayBuffer, mode: ArgumentMode): void {
  if (mode === 'all') return
  const ring = new Ring(memory)
  const view = new DataView(memory)
  const used = Math.min(recordsBegun(ring.words), ring.size)
  for (let place = 0; place < used; place++) forgetArguments(view, ring.at(place), mode)
}

/**
 * Copies the records of a ring, as many as fit, into a new ring of another size, which continues its numbers.
 * Precondition: no thread writes into either of them.
 */
export function moveRecords(from: ArrayBuffer, to: ArrayBuffer): void {
  const [before, after] = [new Ring(from), new Ring(to)]
  copyNumbers(before.words, after.words)
  const head = before.words[HEAD]!
  for (let back = Math.min(recordsBegun(before.words), before.size, after.size); back > 0; back--) {
    const sequence = (head - back) | 0
    new Uint8Array(to, after.at(sequence), RECORD_SIZE).set(new Uint8Array(from, before.at(sequence), RECORD_SIZE))
  }
}

/**
 * Writes records into the ring, without a lock. A record is lost, never a call, if the reader is slow, or if a writer
 * does not run while the others write a whole turn of the ring.
 *
 * Preconditions: any number of threads may write at once; none waits for another.
 */
export class RecordWriter {
  readonly #ring: Ring
  readonly #view: DataView
  readonly #words: Int32Array
  readonly #halfFull: () => void

  /** @param halfFull called when the ring is half full; the reader also reads once a second by itself */
  constructor(memory: ArrayBuffer, halfFull: () => void) {
    this.#ring = new Ring(memory)
    this.#view = new DataView(memory)
    this.#words = this.#ring.words
    this.#halfFull = halfFull
  }

  write(record: CallRecord, args?: RecordedArguments): void {
    const sequence = Atomics.add(this.#words, HEAD, 1)
    if ((sequence & HALF_TURN_MASK) === 0) countHalfTurn(this.#words, sequence)
    const at = this.#ring.at(sequence)
    if (this.#ring.enter(at)) {
      if (!this.#ring.isOvertaken(sequence)) {
        encodeRecord(this.#view, at, record)
        if (args) encodeArguments(this.#view, this.#words, at, args)
        Atomics.store(this.#words, at >> 2, (sequence + 1) | 0)
      }
      this.#ring.leave(at)
    }
    if (((sequence - Atomics.load(this.#words, TAIL)) | 0) === this.#ring.size / 2) this.#halfFull()
  }
}

/** Reads records from the ring. Precondition: only one thread of one process, the keeper, reads. */
export class RecordReader {
  readonly #memory: ArrayBuffer
  readonly #ring: Ring
  readonly #words: Int32Array
  readonly #copy = new DataView(new ArrayBuffer(RECORD_SIZE))
  readonly #hasArguments: boolean
  /** The number of records that were overwritten before they were read, or never completed by their writer. */
  lost = 0

  /** @param hasArguments whether the arguments of a call are read too, which takes longer */
  constructor(memory: ArrayBuffer, hasArguments = false) {
    this.#memory = memory
    this.#ring = new Ring(memory)
    this.#words = this.#ring.words
    this.#hasArguments = hasArguments
  }

  /**
   * Passes all complete records to `take`, oldest first.
   *
   * @param isOver no thread writes any more: an incomplete record stays so, and the next engine records that call
   */
  drain(take: (record: CallRecord, args?: SpelledArguments) => void, isOver = false): void {
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
      // A record that was overwritten during the copy is counted as lost in the next round.
      if (this.#ring.isOvertaken(tail)) continue
      // A writer will soon complete this record; once half a ring was written after it, its writer counts as dead.
      if (!isThere && !isOver && behind < size / 2) break
      tail = (tail + 1) | 0
      // Before it is taken: a record at which the keeper fails must not be the first that the next keeper reads.
      Atomics.store(this.#words, TAIL, tail)
      if (isThere) take(decodeRecord(this.#copy, 0), this.#hasArguments ? this.#arguments : undefined)
      else if (!isOver) this.lost++
    }
    Atomics.store(this.#words, TAIL, tail)
  }

  get #arguments(): SpelledArguments {
    return { args: registersOf(this.#copy, 0), texts: textsIn(this.#copy, 0) }
  }

  /**
   * Copies a record, or its numbers alone, if it is complete: word by word with atomic loads, so that all loads
   * precede the next one of HEAD.
   *
   * @returns whether it was complete; the copy is valid if the record is not overtaken afterwards
   */
  #read(sequence: number): boolean {
    const at = this.#ring.at(sequence)
    if (Atomics.load(this.#words, at >> 2) !== ((sequence + 1) | 0)) return false
    const size = this.#hasArguments ? RECORD_SIZE : RECORD_FIXED
    for (let byte = 0; byte < size; byte += 4)
      this.#copy.setInt32(byte, Atomics.load(this.#words, (at + byte) >> 2), true)
    return true
  }
}
