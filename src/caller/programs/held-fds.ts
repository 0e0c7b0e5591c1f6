import { existsSync, opendirSync, readlinkSync } from 'node:fs'
import type { Tid } from '../../abi/brand.ts'
import { O_PATH } from '../../abi/fcntl.ts'
import type { IsHeld } from '../../calls/context.ts'
import { orFalse, orUndefined } from '../../kernel/error.ts'
import { type Fd, type Handle, kcmpFile } from '../../kernel/fd.ts'
import { isMountRoot, openat } from '../../kernel/files.ts'

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

/**
 * Returns a handle of the root directory of a mount that a task's descriptor is open for; undefined if it is open for
 * something else.
 *
 * @param task the task's `/proc/TID`
 */
export function rootOfMount(task: Handle, fd: number): Fd | undefined {
  const handle = orUndefined('any', () => openat(task.raw, Buffer.from(`fd/${fd}\0`), O_PATH))
  if (!handle || orFalse('any', () => isMountRoot(handle))) return handle
  handle[Symbol.dispose]()
  return undefined
}

/**
 * Tells whether a process still has a descriptor of the file `given`. It only compares descriptors (kcmp(2)): opening
 * a mount makes it busy for that moment, and reading `fdinfo` may wait for the file system.
 *
 * This waits while the process executes a program, and a container can make that take for ever: the kernel then
 * closes descriptors, which may hang in a file system of the container. So only a thread that serves the same
 * container may ask.
 *
 * Precondition: the calling thread is at home, with the right to search `/proc/PID/fd`.
 *
 * @see linux/fs/exec.c begin_new_exec(): do_close_on_exec() under exec_update_lock
 */
export const callerHolds: IsHeld = (given, { process, fd }) =>
  fd === undefined ? heldAs(process, given) !== undefined : kcmpFile(process, fd, given)

/**
 * Tells whether the process that was given a descriptor may still have it, without ever waiting for that process.
 * Almost everything else in `/proc/PID` waits as `callerHolds` does: `stat`, `ns/`, `fd/`, `exe` and `root`.
 */
export const holderExists: IsHeld = (_, { process }) => existsSync(`/proc/${process}`)
