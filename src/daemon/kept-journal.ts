import { fstatSync } from 'node:fs'
import { takeCalls } from '../engine/foreign-journal.ts'
import { isJournal, JOURNAL_SIZE, markJournal, Slots } from '../engine/journal.ts'
import { Fd } from '../kernel/fd.ts'
import { map, memfd } from '../kernel/shared-memory.ts'
import type { Estate } from './estate.ts'

/** The journal of a keeper before this one, with its calls in flight; otherwise a new one, with them if they can be found. */
export function keptJournal(estate: Estate, fault: (message: string) => void): { journal: Fd; memory: ArrayBuffer } {
  using kept = estate.journal
  const size = kept ? fstatSync(kept.raw).size : 0
  const before = kept && map(kept, size)
  if (size === JOURNAL_SIZE && isJournal(before!)) return { journal: new Fd(kept!.release()), memory: before! }
  const journal = memfd('intercede-journal', JOURNAL_SIZE)
  const memory = map(journal, JOURNAL_SIZE)
  markJournal(memory)
  if (before) fault(settled(takeCalls(before, new Slots(memory))))
  estate.keepJournal(journal)
  return { journal, memory }
}

const settled = (calls: number | undefined): string =>
  calls === undefined
    ? 'Cannot read the journal of an earlier intercede: calls that were in flight are lost'
    : `Cannot read all of the journal of an earlier intercede: of ${calls} calls in flight, those that it had begun fail with EIO`
