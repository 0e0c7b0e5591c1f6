import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import { isJournal, JOURNAL_SIZE, writeMagic } from '../../link/journal.ts'
import { CONTAINERS } from '../../link/limits.ts'
import { isPersistent, markPersistent, PERSISTENT_SIZE } from '../../link/persistent-layout.ts'
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
import type { MemoryName, PersistedState } from './persisted-state.ts'

/** A memory that readers, engines or the next keeper share with us, mapped. */
export interface OpenMemory {
  readonly fd: Fd
  readonly memory: ArrayBuffer
}

interface Layout {
  readonly size: number
  readonly is: (memory: ArrayBuffer) => boolean
  readonly format: (memory: ArrayBuffer) => void
}

const LAYOUTS = {
  /** Nobody can read the calls of another layout, so `FORMAT` differs too, and their containers are not served. */
  journal: { size: JOURNAL_SIZE, is: isJournal, format: writeMagic },
  /** If the layout differs, all counts start at zero. */
  counts: {
    size: countsSize(CONTAINERS),
    is: (memory) => isCounts(memory) && memory.byteLength === countsSize(CONTAINERS),
    format: formatCounts,
  },
  directory: { size: DIRECTORY_SIZE, is: isDirectory, format: formatDirectory },
  lasting: { size: PERSISTENT_SIZE, is: isPersistent, format: markPersistent },
} as const satisfies { readonly [Name in MemoryName]?: Layout }

function make(state: PersistedState, name: MemoryName, size: number, format: Layout['format']): OpenMemory {
  const fd = memfd(`intercede-${name}`, size)
  const memory = map(fd)
  format(memory)
  state.keepMemory(name, fd)
  return { fd, memory }
}

/** Opens a memory of the previous keeper. A memory with another layout is replaced by an empty one. */
export function openMemory(
  state: PersistedState,
  name: keyof typeof LAYOUTS,
): OpenMemory & { readonly isNew: boolean } {
  const { size, is, format } = LAYOUTS[name]
  using kept = state.memory(name)
  const before = kept && map(kept)
  if (before && is(before)) return { fd: new Fd(kept.release()), memory: before, isNew: false }
  return { ...make(state, name, size, format), isNew: true }
}

/**
 * Opens the ring of records of the previous keeper. A ring of another size is replaced by a new ring, into which the
 * records are copied. Records with another layout are lost.
 *
 * @param size as in `Limits`
 * @param mode how much of the arguments readers may see from now on, even in earlier records
 */
export function openRecords(state: PersistedState, size: number, mode: ArgumentMode = 'all'): OpenMemory {
  using kept = state.memory('records')
  const mapped = kept && map(kept)
  const before = mapped && isRecords(mapped) ? mapped : undefined
  if (before) {
    freePlaces(before)
    // Readers may still use the replaced ring.
    forgetRecorded(before, mode)
  }
  if (before?.byteLength === recordsSize(size)) {
    reviveRecords(before)
    return { fd: new Fd(kept!.release()), memory: before }
  }
  return make(state, 'records', recordsSize(size), (ring) => {
    formatRecords(ring)
    if (!before) return
    moveRecords(before, ring)
    endRecords(before)
  })
}
