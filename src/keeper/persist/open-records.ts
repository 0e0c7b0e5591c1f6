import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import {
  endRecords,
  formatRecords,
  isRecords,
  recordsSize,
  reviveRecords,
  unreadRecords,
} from '../../memories/record-layout.ts'
import { forgetRecorded, freePlaces, moveRecords } from '../../memories/records.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { PersistedState } from './persisted-state.ts'

interface OpenRecords {
  readonly records: Fd
  readonly ring: ArrayBuffer
  /** How many records of the previous keeper can no longer be read. */
  readonly lost: number
}

/**
 * Opens the ring of records of the previous keeper. A ring of another size is replaced by a new ring, into which the
 * records are copied. Records with another layout are lost.
 *
 * @param size as in `Limits`
 * @param journal the journal of an earlier version, which contains the records too
 * @param mode how much of the arguments readers may see from now on, even in earlier records
 */
export function openRecords(
  state: PersistedState,
  size: number,
  journal?: ArrayBuffer,
  mode: ArgumentMode = 'all',
): OpenRecords {
  using kept = state.records
  const before = kept && map(kept)
  const isOurs = before !== undefined && isRecords(before)
  if (isOurs) freePlaces(before)
  // Readers may still use the replaced ring.
  if (isOurs) forgetRecorded(before, mode)
  if (isOurs && before.byteLength === recordsSize(size)) {
    reviveRecords(before)
    return { records: new Fd(kept!.release()), ring: before, lost: 0 }
  }
  const records = memfd('intercede-records', recordsSize(size))
  const ring = map(records)
  formatRecords(ring)
  if (isOurs) moveRecords(before, ring)
  if (isOurs) endRecords(before)
  state.keepRecords(records)
  const unread = isOurs ? undefined : (before ?? journal)
  return { records, ring, lost: unread ? unreadRecords(new Int32Array(unread, 0, 1024)) : 0 }
}
