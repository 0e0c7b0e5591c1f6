import { SLOT, SLOT_SIZE, SLOTS } from '../../calls/slot.ts'

/** The header of the journal: indices of 32-bit words. */
export const BEAT = 32
/** The number of the layout. */
const LAYOUT = 12
export const HEADER_SIZE = 4096
/**
 * The journal's size in bytes. Journals of earlier versions are longer: they have the ring of records behind the slots.
 */
export const JOURNAL_SIZE = HEADER_SIZE + SLOTS * SLOT_SIZE

/** The version of the layout of the slots; raise it with every change, since other versions cannot be read. */
const CURRENT = 1

/** Writes the version and the shape of the slots into new memory. */
export function writeMagic(memory: ArrayBuffer): void {
  new DataView(memory).setInt32(4 * LAYOUT, CURRENT, true)
  writeShape(memory, HEADER_SIZE)
}

/** Returns whether the slots of a journal have our layout. */
export const hasOurSlots = (memory: ArrayBuffer): boolean =>
  memory.byteLength >= JOURNAL_SIZE && new DataView(memory).getInt32(4 * LAYOUT, true) === CURRENT

/** Copies the slots of a journal of an earlier version. Precondition: they have our layout. */
export function copySlots(from: ArrayBuffer, to: ArrayBuffer): void {
  new Uint8Array(to, HEADER_SIZE).set(new Uint8Array(from, HEADER_SIZE, JOURNAL_SIZE - HEADER_SIZE))
}

/**
 * Index of the first of six words that tell any later version where the calls in flight are, even if it cannot read the
 * rest of the journal. These words and the numbers of `STATE` never change. A slot begins with its notification.
 */
export const SHAPE = 48

/** Writes where the slots of a journal are. @param at offset of the first slot in bytes */
function writeShape(memory: ArrayBuffer, at: number): void {
  const words = [at, SLOT_SIZE, SLOTS, SLOT.state, SLOT.listener, SLOT.container]
  new Int32Array(memory).set(words, SHAPE)
}
