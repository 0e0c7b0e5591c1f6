import { dup, type Fd } from './fd.ts'
import { pipe } from './pipe.ts'
import { waitReadable } from './socket.ts'

const PATIENCE_MS = 1000
/** Above the numbers of all others, as long as there are not very many. */
const LAST = 16_384

/**
 * Starts a process and waits until it has no copy of a descriptor of ours any more, beyond those that it is given: a mount that is
 * open somewhere cannot be unmounted.
 *
 * execve(2) closes descriptors in the order of their numbers (fs/file.c do_close_on_exec()), and libuv's sign that it has begun
 * is one of the first: so there is one that is closed last.
 */
export function spawnWithoutInheritedFds<T>(start: () => T): T {
  const ends = last()
  if (!ends) return start()
  using read = ends.read
  try {
    return start()
  } finally {
    ends.write[Symbol.dispose]()
    waitReadable(read, PATIENCE_MS)
  }
}

/** A pipe whose writing end has a high number; undefined if no descriptor may have it. */
function last(): { readonly read: Fd; readonly write: Fd } | undefined {
  try {
    const { read, write } = pipe()
    using low = write
    try {
      return { read, write: dup(low, LAST) }
    } catch {
      read[Symbol.dispose]()
    }
  } catch {
    // There is no descriptor for it: the process will hardly start either.
  }
  return undefined
}
