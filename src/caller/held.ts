import type { IsHeld } from '../calls/context.ts'
import { isSameFile } from '../kernel/compare.ts'
import { SyscallError } from '../kernel/error.ts'
import { isMountRoot, mountId, O_DIRECTORY, O_PATH, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'

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

/** @param proc the host's procfs; the thread must be allowed to search there */
export const isHeldIn =
  (proc: Handle): IsHeld =>
  (kind, ours, { process, fd }) => {
    if (kind === 'context') return isSameFile(process, fd, ours)
    try {
      using task = openat(proc.raw, Buffer.from(`${process}\0`), O_PATH | O_DIRECTORY)
      return mountOf(task, fd) === mountId(ours)
    } catch (error) {
      if (error instanceof SyscallError) return false
      throw error
    }
  }
