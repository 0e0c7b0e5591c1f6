import { RECORD_SIZE } from '../../calls/record.ts'
import { SLOT, SLOT_SIZE, SLOTS } from '../../calls/slot.ts'

/** Header of the shared memory: 32-bit words. */
export const HEAD = 0
export const TAIL = 16
export const BEAT = 32
const LAYOUT = 48
export const HEADER_SIZE = 4096
export const RECORDS_AT = HEADER_SIZE + SLOTS * SLOT_SIZE

/** In bytes. @param records how many the ring holds, a power of two: their numbers wrap at 32 bits */
export const journalSize = (records: number): number => RECORDS_AT + records * RECORD_SIZE

/** Of the slots and the records: a journal of another one cannot be read. To be changed with it. */
const CURRENT = 1

/** Says how new memory is used. */
export function writeMagic(memory: ArrayBuffer): void {
  new DataView(memory).setInt32(LAYOUT, CURRENT, true)
  writeShape(memory, HEADER_SIZE)
}

/** Was this memory used by a program that uses it as we do? */
export const isJournal = (memory: ArrayBuffer): boolean => new DataView(memory).getInt32(LAYOUT, true) === CURRENT

/**
 * Where any later program finds the calls in flight of a journal that it cannot read otherwise: 32-bit words of the header,
 * from this one on, which with the numbers of the states are the same for ever. The notification is the start of a slot.
 */
export const SHAPE = 48

/** Says where the slots of a journal lie. @param at of the first */
function writeShape(memory: ArrayBuffer, at: number): void {
  const words = [at, SLOT_SIZE, SLOTS, SLOT.state, SLOT.listener, SLOT.container]
  new Int32Array(memory).set(words, SHAPE)
}
