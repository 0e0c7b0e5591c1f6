import type { Tid } from '../../abi/brand.ts'
import { O_NOFOLLOW, O_PATH } from '../../abi/fcntl.ts'
import { PIDFD_THREAD } from '../../abi/pidfd.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { isErrno, orUndefined } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { openat, readlink } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { pidfdGetfd, pidfdOpen } from '../../kernel/pidfd.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'

/** The descriptor table of one thread, which need not be the table of its process (CLONE_FILES). */
export interface FdTable {
  readonly tid: Tid
  readonly tgid: number
  /** The thread's directory in the host's procfs. */
  readonly task: Handle
  readonly identity: ThreadIdentity
}

const name = (fd: number): Uint8Array => Buffer.from(`fd/${fd}\0`)

const unlessClosed = <T>(look: () => T): T | undefined => orUndefined(['ENOENT', 'EBADF'], look)

/**
 * Returns an O_PATH handle of what a descriptor names; undefined if it is not open. O_PATH neither opens nor closes a
 * file, so no file system of the container is asked.
 */
export const handleOf = ({ task, identity }: FdTable, fd: number): Fd | undefined =>
  unlessClosed(() => identity.searching(() => openat(task.raw, name(fd), O_PATH)))

/**
 * Returns a duplicate of a descriptor whose entry in procfs reads `kind`. Only kinds that the kernel itself
 * implements are safe: closing a file of a file system that the container serves may take for ever.
 *
 * @returns undefined if the descriptor is closed or of another kind
 * @throws {ContinueError} before Linux 6.9 for a thread that is not the first of its process, whose table may differ
 */
export function copyOf(table: FdTable, fd: number, kind: string): Fd | undefined {
  const { task, identity, tid, tgid } = table
  return unlessClosed(() => {
    const link = identity.searching(() => openat(task.raw, name(fd), O_PATH | O_NOFOLLOW))
    using held = link
    if (Buffer.from(readlink(held)).toString('latin1') !== kind) return undefined
    identity.with(steps.look)
    using thread = pidfdOfThread(tid, tgid)
    return pidfdGetfd(thread, fd)
  })
}

function pidfdOfThread(tid: Tid, tgid: number): Fd {
  try {
    return pidfdOpen(tid, PIDFD_THREAD)
  } catch (error) {
    if (!isErrno(error, 'EINVAL')) throw error
    if (tid !== tgid) throw new ContinueError('otherThread')
    return pidfdOpen(tid)
  }
}
