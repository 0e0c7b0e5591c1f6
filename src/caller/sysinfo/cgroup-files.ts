import { errnos } from '../../abi/errno.ts'
import { O_RDONLY, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV } from '../../abi/fcntl.ts'
import { SyscallError } from '../../kernel/error.ts'
import { openat2, read } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'

/** Beyond the root of the hierarchy. */
export const TOP = Symbol('top')
/**
 * Reads a file of a control group, of one that it lies in, or by a longer name of one below.
 *
 * @param height how many groups above: 0 is the group itself
 * @returns TOP if there is no group so high; undefined if the group has no such file, or is gone
 */
export type ReadCgroup = (height: number, name: string) => string | undefined | typeof TOP

/** Several times as long as `memory.stat`; a list of tasks may be longer and is cut. */
const FILE_LIMIT = 32 * 1024
const WITHIN = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS

const buffer = Buffer.alloc(FILE_LIMIT)

/** @param group a descriptor of its directory, which outlives what is returned */
export function cgroupFiles(group: number): ReadCgroup {
  return (height, name) => {
    try {
      // The parents by `..`, which leads to where the group lies now, and not out of its file system.
      const path = Buffer.from(`${'../'.repeat(height)}${name}\0`, 'latin1')
      using file = openat2(group, path, O_RDONLY, WITHIN)
      return whole(file)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      return error.errno === errnos.EXDEV ? TOP : undefined
    }
  }
}

/** The kernel gives lists a page at a time. */
function whole(file: Handle): string {
  let length = 0
  for (let got = -1; got !== 0 && length < FILE_LIMIT; length += got) got = read(file, buffer.subarray(length))
  return buffer.toString('latin1', 0, length)
}
