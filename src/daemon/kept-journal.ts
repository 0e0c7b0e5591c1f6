import { fstatSync } from 'node:fs'
import { isJournal, JOURNAL_SIZE, markJournal } from '../engine/journal.ts'
import type { Fd } from '../kernel/fd.ts'
import { map, memfd } from '../kernel/shared-memory.ts'
import type { Estate } from './estate.ts'

/** The journal of a keeper before this one, with its calls in flight; otherwise a new one. */
export function keptJournal(estate: Estate, fault: (message: string) => void): { journal: Fd; memory: ArrayBuffer } {
  const kept = estate.journal
  if (kept && fstatSync(kept.raw).size === JOURNAL_SIZE) {
    const memory = map(kept, JOURNAL_SIZE)
    if (isJournal(memory)) return { journal: kept, memory }
  }
  if (kept) fault('Cannot read the journal of an earlier intercede: calls that were in flight are lost')
  kept?.[Symbol.dispose]()
  const journal = memfd('intercede-journal', JOURNAL_SIZE)
  const memory = map(journal, JOURNAL_SIZE)
  markJournal(memory)
  estate.keepJournal(journal)
  return { journal, memory }
}
