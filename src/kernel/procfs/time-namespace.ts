import { isErrno } from '../error.ts'
import { namespaceInode } from '../files.ts'

/** A time namespace, and how far its boot clock is ahead of the host's, in milliseconds. */
export interface TimeNamespace {
  readonly inode: number
  readonly aheadMs: number
}

/**
 * Returns the time namespace of a task; undefined if the kernel has none, or if the task has unshared that of its
 * children, since then no file tells the offsets of its own: linux/kernel/time/namespace.c proc_timens_show_offsets()
 *
 * @param name gives the path of an entry of the task, which is read at once
 * @param read returns the text of an entry
 */
export function timeNamespaceOf(
  proc: number,
  name: (entry: string) => Uint8Array,
  read: (entry: string) => string,
): TimeNamespace | undefined {
  const inode = inodeOrNone(proc, name('ns/time'))
  if (inode === undefined || namespaceInode(proc, name('ns/time_for_children')) !== inode) return undefined
  return { inode, aheadMs: bootOffset(read('timens_offsets')) }
}

function inodeOrNone(proc: number, path: Uint8Array): number | undefined {
  try {
    return namespaceInode(proc, path)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** @returns milliseconds; the line is: boottime SECONDS NANOSECONDS, see time_namespaces(7) */
function bootOffset(text: string): number {
  const [, seconds = 0, nanoseconds = 0] = /^boottime +(-?\d+) +(\d+)$/m.exec(text) ?? []
  return Number(seconds) * 1000 + Number(nanoseconds) / 1e6
}
