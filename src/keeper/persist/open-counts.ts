import { CONTAINERS } from '../../engine/tables/limits.ts'
import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import { countsSize, formatCounts, isCounts } from '../../memories/counts-layout.ts'
import type { PersistedState } from './persisted-state.ts'

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
