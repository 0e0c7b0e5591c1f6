import { RECORD_SIZE } from '../../calls/record.ts'
import { SLOT, SLOT_SIZE, SLOTS } from '../../calls/slot.ts'

/** The header of the journal: indices of 32-bit words. */
export const HEAD = 0
export const TAIL = 16
export const BEAT = 32
/** The number of the layout. */
const LAYOUT = 12
export const HEADER_SIZE = 4096
export const RECORDS_AT = HEADER_SIZE + SLOTS * SLOT_SIZE

/**
 * Returns the journal's size in bytes.
 *
 * @param records capacity of the ring; a power of two, for sequences wrap at 2^32
 */
export const journalSize = (records: number): number => RECORDS_AT + records * RECORD_SIZE

/** The version of the layout of slots and records; raise it with every change, since other versions cannot be read. */
const CURRENT = 1

/** Writes the version and the shape of the slots into new memory. */
export function writeMagic(memory: ArrayBuffer): void {
  new DataView(memory).setInt32(4 * LAYOUT, CURRENT, true)
  writeShape(memory, HEADER_SIZE)
}

/** Returns whether `memory` is a journal of our version. */
export const isJournal = (memory: ArrayBuffer): boolean => new DataView(memory).getInt32(4 * LAYOUT, true) === CURRENT

/**
 * Index of the first of six words which tell any later version where the calls in flight are, although it cannot read
 * the rest of the journal. These words and the numbers of `STATE` never change. A slot begins with its notification.
 */
export const SHAPE = 48

/** Writes where the slots of a journal are. @param at offset of the first slot in bytes */
function writeShape(memory: ArrayBuffer, at: number): void {
  const words = [at, SLOT_SIZE, SLOTS, SLOT.state, SLOT.listener, SLOT.container]
  new Int32Array(memory).set(words, SHAPE)
}
