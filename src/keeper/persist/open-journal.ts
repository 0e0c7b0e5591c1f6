import { importCalls } from '../../engine/journal/import-journal.ts'
import { isJournal, journalSize, writeMagic } from '../../engine/journal/layout.ts'
import { freePlaces, moveJournal } from '../../engine/journal/records.ts'
import { Slots } from '../../engine/journal/slots.ts'
import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import type { PersistedState } from './persisted-state.ts'

interface Journal {
  readonly journal: Fd
  readonly memory: ArrayBuffer
}

/**
 * Opens the journal of the previous keeper, with its calls in flight. A journal of another size or layout is replaced
 * by a new journal, into which the calls are copied.
 *
 * @param records as in `Limits`
 * @param fault is told how many calls in flight fail, if the old layout is another one
 */
export function openJournal(state: PersistedState, records: number, fault: (message: string) => void): Journal {
  using kept = state.journal
  const before = kept && map(kept)
  const size = journalSize(records)
  const isOurs = before !== undefined && isJournal(before)
  if (isOurs) freePlaces(before)
  if (isOurs && before.byteLength === size) return { journal: new Fd(kept!.release()), memory: before }
  const journal = memfd('intercede-journal', size)
  const memory = map(journal)
  writeMagic(memory)
  if (isOurs) moveJournal(before, memory)
  else if (before) fault(settled(importCalls(before, new Slots(memory))))
  state.keepJournal(journal)
  return { journal, memory }
}

const settled = (calls: number | undefined): string =>
  calls === undefined
    ? 'Cannot read the journal of an earlier intercede: calls that were in flight are lost'
    : `Cannot read all of the journal of an earlier intercede: of ${calls} calls in flight, those that it had begun fail with EIO`
