import { opendirSync } from 'node:fs'
import type { Tid } from '../abi/brand.ts'
import type { IsHeld } from '../calls/context.ts'
import { isSameFile } from '../kernel/compare.ts'
import { SyscallError } from '../kernel/error.ts'
import { isMountRoot, mountId, O_PATH, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { mountNumberOf } from '../kernel/mounted.ts'

const ownPid = process.pid as Tid
/** A process with more is not looked through: it is taken to have what we keep. */
const DESCRIPTORS = 1024

/** The mount whose root directory a descriptor of a task is open for. @param task its `/proc/TID` */
export function mountOf(task: Handle, fd: number): bigint | undefined {
  try {
    using handle = openat(task.raw, Buffer.from(`fd/${fd}\0`), O_PATH)
    return isMountRoot(handle) ? mountId(handle) : undefined
  } catch (error) {
    if (error instanceof SyscallError) return undefined
    throw error
  }
}

/** The caller must be at home, and allowed to search there. */
export const isHeld: IsHeld = (kind, ours, { process, fd }) => {
  const mount = kind === 'mount' ? mountNumberOf(ownPid, ours.raw) : undefined
  const isIt = (fd: number): boolean => (mount === undefined ? isSameFile(process, fd, ours) : isIn(mount, process, fd))
  return fd === undefined ? hasOne(process, isIt) : isIt(fd)
}

function isIn(mount: number, process: Tid, fd: number): boolean {
  try {
    return mountNumberOf(process, fd) === mount
  } catch (error) {
    if (error instanceof SyscallError) return false
    throw error
  }
}

function hasOne(process: Tid, isIt: (fd: number) => boolean): boolean {
  try {
    using directory = opened(`/proc/${process}/fd`)
    for (let count = 0; count < DESCRIPTORS; count++) {
      const name = directory.next()
      if (name === undefined) return false
      if (isIt(Number(name))) return true
    }
    return true
  } catch {
    // The process has ended.
    return false
  }
}

function opened(path: string): Disposable & { readonly next: () => string | undefined } {
  const directory = opendirSync(path, { bufferSize: 256 })
  return { next: () => directory.readSync()?.name, [Symbol.dispose]: () => directory.closeSync() }
}
