import { opendirSync } from 'node:fs'
import type { Tid } from '../../abi/brand.ts'
import { O_PATH } from '../../abi/fcntl.ts'
import type { IsHeld } from '../../calls/context.ts'
import { orUndefined } from '../../kernel/error.ts'
import { isMountRoot, mountId, openat } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { kcmpFile } from '../../kernel/kcmp.ts'

/** A process with more is not looked through: it is taken to have what we keep. */
const DESCRIPTORS = 1024
const GONE: ReadonlySet<unknown> = new Set(['ENOENT', 'ESRCH'])

/** The mount whose root directory a descriptor of a task is open for. @param task its `/proc/TID` */
export const mountOfFd = (task: Handle, fd: number): bigint | undefined =>
  orUndefined('any', () => {
    using handle = openat(task.raw, Buffer.from(`fd/${fd}\0`), O_PATH)
    return isMountRoot(handle) ? mountId(handle) : undefined
  })

/**
 * Nothing of the process is opened or read: a mount that is open for a moment is busy for that moment, and what a descriptor
 * says of itself (`fdinfo`) may wait for its file system. The calling thread must be at home, with the right to search there.
 */
export const callerHolds: IsHeld = (given, { process, fd }) =>
  fd === undefined ? hasOne(process, given) : kcmpFile(process, fd, given)

function hasOne(process: Tid, given: Handle): boolean {
  try {
    using directory = opened(`/proc/${process}/fd`)
    for (let count = 0; count < DESCRIPTORS; count++) {
      const name = directory.next()
      if (name === undefined) return false
      if (kcmpFile(process, Number(name), given)) return true
    }
    return true
  } catch (error) {
    return !GONE.has((error as NodeJS.ErrnoException).code)
  }
}

function opened(path: string): Disposable & { readonly next: () => string | undefined } {
  const directory = opendirSync(path, { bufferSize: 256 })
  return { next: () => directory.readSync()?.name, [Symbol.dispose]: () => directory.closeSync() }
}
