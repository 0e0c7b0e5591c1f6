import { importCalls } from '../../engine/journal/import-journal.ts'
import { copySlots, hasOurSlots, JOURNAL_SIZE, writeMagic } from '../../engine/journal/layout.ts'
import { Slots } from '../../engine/journal/slots.ts'
import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import type { PersistedState } from './persisted-state.ts'

interface Journal {
  readonly journal: Fd
  readonly memory: ArrayBuffer
  /** The journal of an earlier version, which contains the records too. */
  readonly before?: ArrayBuffer
}

/**
 * Opens the journal of the previous keeper, with its calls in flight. A journal of an earlier version is replaced by a
 * new journal, into which the calls are copied. If its slots have our layout, everything that is known about begun acts
 * is copied too.
 *
 * @param fault called with the number of calls in flight that fail, if the slots have another layout
 */
export function openJournal(state: PersistedState, fault: (message: string) => void): Journal {
  using kept = state.journal
  const before = kept && map(kept)
  const isOurs = before !== undefined && hasOurSlots(before)
  if (isOurs && before.byteLength === JOURNAL_SIZE) return { journal: new Fd(kept!.release()), memory: before }
  const journal = memfd('intercede-journal', JOURNAL_SIZE)
  const memory = map(journal)
  writeMagic(memory)
  if (isOurs) copySlots(before, memory)
  else if (before) fault(settled(importCalls(before, new Slots(memory))))
  state.keepJournal(journal)
  return { journal, memory, ...(before ? { before } : {}) }
}

const settled = (calls: number | undefined): string =>
  calls === undefined
    ? 'Cannot read the journal of an earlier intercede: calls that were in flight are lost'
    : `Cannot read all of the journal of an earlier intercede: of ${calls} calls in flight, those that it had begun fail with EIO`
