import { dup, type Fd } from './fd.ts'
import { pipe } from './pipe.ts'
import { waitReadable } from './socket.ts'

const PATIENCE_MS = 1000
/** The lowest number of the pipe's writing end: above all other descriptors, unless there are very many. */
const LAST = 16_384

/**
 * Runs `start`, which starts a process, and returns when the child has no copies of our descriptors any more, except
 * for those that it is given: a mount that is open somewhere cannot be unmounted.
 *
 * execve(2) closes descriptors in ascending order (fs/file.c do_close_on_exec()), and libuv's own close-on-exec pipe
 * has a low number, so it reports too early. We give a pipe the highest number, and wait for its end of file.
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

/** Makes a pipe whose writing end has a high number; undefined if RLIMIT_NOFILE does not allow that number. */
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
    // No descriptor is free for a pipe, so the process will hardly start either.
  }
  return undefined
}
