import { opendirSync, readlinkSync } from 'node:fs'
import type { Tid } from '../../abi/brand.ts'
import type { Handle } from '../../kernel/handle.ts'
import { kcmpFile } from '../../kernel/kcmp.ts'

/** Maximum number of descriptors that are searched; a process with more is assumed to hold what we keep. */
const DESCRIPTORS = 1024
const GONE: ReadonlySet<unknown> = new Set(['ENOENT', 'ESRCH'])

/**
 * Returns the process's descriptor of the file `given`; undefined if it has none, 'many' if it has too many.
 *
 * Precondition: the calling thread is at home, with the right to search `/proc/PID/fd`.
 */
export const heldAs = (process: Tid, given: Handle): number | 'many' | undefined =>
  search(process, (fd) => kcmpFile(process, fd, given))

/** Returns the process's descriptor of a pipe with this inode number; see `heldAs`. */
export const pipeHeldAs = (process: Tid, inode: bigint): number | 'many' | undefined =>
  search(process, (fd) => linkOf(`/proc/${process}/fd/${fd}`) === `pipe:[${inode}]`)

/** Where a process has too many, it is not known whether it has this one. */
export const known = (held: number | 'many' | undefined): number | undefined => (held === 'many' ? undefined : held)

function search(process: Tid, isIt: (fd: number) => boolean): number | 'many' | undefined {
  try {
    using directory = opened(`/proc/${process}/fd`)
    for (let count = 0; count < DESCRIPTORS; count++) {
      const name = directory.next()
      if (name === undefined) return undefined
      if (isIt(Number(name))) return Number(name)
    }
    return 'many'
  } catch (error) {
    if (GONE.has((error as NodeJS.ErrnoException).code)) return undefined
    return 'many'
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch (error) {
    if (GONE.has((error as NodeJS.ErrnoException).code)) return undefined
    throw error
  }
}

function opened(path: string): Disposable & { readonly next: () => string | undefined } {
  const directory = opendirSync(path, { bufferSize: 256 })
  return { next: () => directory.readSync()?.name, [Symbol.dispose]: () => directory.closeSync() }
}
