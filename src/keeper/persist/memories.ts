import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import { isJournal, JOURNAL_SIZE, writeMagic } from '../../link/journal.ts'
import { CONTAINERS } from '../../link/limits.ts'
import { countsSize, formatCounts, isCounts } from '../../memories/counts-layout.ts'
import { DIRECTORY_SIZE, formatDirectory, isDirectory } from '../../memories/directory.ts'
import {
  endRecords,
  forgetRecorded,
  formatRecords,
  freePlaces,
  isRecords,
  moveRecords,
  recordsSize,
  reviveRecords,
} from '../../memories/records.ts'
import type { ArgumentMode } from '../../policy/config.ts'
import type { PersistedState } from './persisted-state.ts'

/**
 * Opens the journal of the previous keeper, with its calls in flight. A journal with another layout is replaced by an
 * empty one: nobody can read its calls, so `FORMAT` differs too, and their containers are no longer served.
 */
export function openJournal(state: PersistedState): { readonly journal: Fd; readonly memory: ArrayBuffer } {
  using kept = state.journal
  const before = kept && map(kept)
  if (before && isJournal(before)) return { journal: new Fd(kept.release()), memory: before }
  const journal = memfd('intercede-journal', JOURNAL_SIZE)
  const memory = map(journal)
  writeMagic(memory)
  state.keepJournal(journal)
  return { journal, memory }
}

interface OpenRecords {
  readonly records: Fd
  readonly ring: ArrayBuffer
}

/**
 * Opens the ring of records of the previous keeper. A ring of another size is replaced by a new ring, into which the
 * records are copied. Records with another layout are lost.
 *
 * @param size as in `Limits`
 * @param mode how much of the arguments readers may see from now on, even in earlier records
 */
export function openRecords(state: PersistedState, size: number, mode: ArgumentMode = 'all'): OpenRecords {
  using kept = state.records
  const before = kept && map(kept)
  const isOurs = before !== undefined && isRecords(before)
  if (isOurs) freePlaces(before)
  // Readers may still use the replaced ring.
  if (isOurs) forgetRecorded(before, mode)
  if (isOurs && before.byteLength === recordsSize(size)) {
    reviveRecords(before)
    return { records: new Fd(kept!.release()), ring: before }
  }
  const records = memfd('intercede-records', recordsSize(size))
  const ring = map(records)
  formatRecords(ring)
  if (isOurs) moveRecords(before, ring)
  if (isOurs) endRecords(before)
  state.keepRecords(records)
  return { records, ring }
}

/** Opens the counts of the previous keeper. If they have another layout, all counts start at zero. */
export function openCounts(state: PersistedState): { readonly counts: Fd; readonly memory: ArrayBuffer } {
  using kept = state.counts
  const before = kept && map(kept)
  if (before && isCounts(before) && before.byteLength === countsSize(CONTAINERS))
    return { counts: new Fd(kept.release()), memory: before }
  const counts = memfd('intercede-counts', countsSize(CONTAINERS))
  const memory = map(counts)
  formatCounts(memory)
  state.keepCounts(counts)
  return { counts, memory }
}

/** Opens the directory of the previous keeper. A directory with another layout is replaced by an empty one. */
export function openDirectoryMemory(state: PersistedState): { readonly fd: Fd; readonly memory: ArrayBuffer } {
  using kept = state.directory
  const before = kept && map(kept)
  if (before && isDirectory(before)) return { fd: new Fd(kept.release()), memory: before }
  const fd = memfd('intercede-directory', DIRECTORY_SIZE)
  const memory = map(fd)
  formatDirectory(memory)
  state.keepDirectory(fd)
  return { fd, memory }
}
