import { errnos } from '../../abi/errno.ts'
import { O_RDONLY, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV } from '../../abi/fcntl.ts'
import { SyscallError } from '../../kernel/error.ts'
import { openat2, read } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'

/** The result of `ReadCgroup` for a height above the root of the hierarchy. */
export const TOP = Symbol('top')
/**
 * Reads a file of a cgroup, of one of its ancestors (`height`), or of a descendant (`name` is then a longer path).
 *
 * @param height how many levels above the cgroup: 0 is the cgroup itself
 * @returns TOP if there is no cgroup at that height; undefined if the cgroup lacks the file or was removed
 */
export type ReadCgroup = (height: number, name: string) => string | undefined | typeof TOP

/** Maximum number of bytes read from a file: several times the size of `memory.stat`. A longer list of tasks is cut. */
const FILE_LIMIT = 32 * 1024
const WITHIN = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS

const buffer = Buffer.alloc(FILE_LIMIT)

/**
 * Returns a reader of the files of a cgroup and its relatives.
 *
 * @param group a descriptor of the cgroup's directory, which must stay open as long as the reader is used
 */
export function cgroupFiles(group: number): ReadCgroup {
  return (height, name) => {
    try {
      // `..` leads to the current parent even if the cgroup was moved, and RESOLVE_NO_XDEV keeps it in the hierarchy.
      const path = Buffer.from(`${'../'.repeat(height)}${name}\0`, 'latin1')
      using file = openat2(group, path, O_RDONLY, WITHIN)
      return whole(file)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      return error.errno === errnos.EXDEV ? TOP : undefined
    }
  }
}

/** Reads the file to its end or to FILE_LIMIT: cgroupfs returns a list one page per read. */
function whole(file: Handle): string {
  let length = 0
  for (let got = -1; got !== 0 && length < FILE_LIMIT; length += got) got = read(file, buffer.subarray(length))
  return buffer.toString('latin1', 0, length)
}
