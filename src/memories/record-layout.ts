import { RECORD_SIZE } from '../calls/record.ts'
import { randomBytes } from '../kernel/random.ts'
import { CACHE_LINE, struct } from '../shared/struct.ts'

/** HEAD and TAIL never move, so that every later version can count the records that were not read. */
const [WORD] = struct({
  head: CACHE_LINE,
  tail: CACHE_LINE,
  halfTurns: CACHE_LINE,
  layout: 1,
  recordSize: 1,
  records: 1,
  id: 2,
  ended: 1,
})

/** The sequence number of the next record, modulo 2^32: writers raise it. */
export const HEAD = WORD.head
/** The sequence number of the next record that the keeper reads, modulo 2^32. */
export const TAIL = WORD.tail
/** How often HEAD has reached a multiple of 2^31, see `recordsBegun`. */
const HALF_TURNS = WORD.halfTurns

/** The number of the layout of header and records; raise it with every change, since other versions cannot be read. */
export const RECORDS_LAYOUT = 3
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
  words[WORD.records] = (memory.byteLength - RECORDS_HEADER) / RECORD_SIZE
  new Uint8Array(memory).set(randomBytes(8), 4 * WORD.id)
}

/** Returns whether `memory` is a ring that we can read and write. */
export function isRecords(memory: ArrayBuffer): boolean {
  if (memory.byteLength < RECORDS_HEADER) return false
  const words = new Int32Array(memory, 0, RECORDS_HEADER / 4)
  const isOurs = words[WORD.layout] === RECORDS_LAYOUT && words[WORD.recordSize] === RECORD_SIZE
  return isOurs && memory.byteLength === recordsSize(words[WORD.records]!)
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

/** Returns how many records the keeper has not read, even in a ring with another layout. */
export const unreadRecords = (words: Int32Array): number =>
  words.length <= TAIL ? 0 : Math.max(0, (words[HEAD]! - words[TAIL]!) | 0)

/** Gives a new ring the numbers of the ring that it replaces, so that cursors stay valid. */
export function copyNumbers(from: Int32Array, to: Int32Array): void {
  for (const word of [HEAD, TAIL, HALF_TURNS, WORD.id, WORD.id + 1]) to[word] = from[word]!
}

/**
 * Counts half a turn of the numbers. To be called by whoever draws a sequence number that is a multiple of 2^31. Each
 * count differs from the one before in parity, so the end of a writer between its draw and this call does no harm.
 */
export function countHalfTurn(words: Int32Array, sequence: number): void {
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
