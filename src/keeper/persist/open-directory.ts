import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import { DIRECTORY_SIZE, formatDirectory, isDirectory } from '../../memories/directory-layout.ts'
import type { PersistedState } from './persisted-state.ts'

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
