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

/** The descriptors of one thread, whose table need not be that of its process. */
export interface FdTable {
  readonly tid: Tid
  readonly tgid: number
  /** Its directory in the host's procfs. */
  readonly task: Handle
  readonly identity: ThreadIdentity
}

const name = (fd: number): Uint8Array => Buffer.from(`fd/${fd}\0`)

const unlessClosed = <T>(look: () => T): T | undefined => orUndefined(['ENOENT', 'EBADF'], look)

/** What a descriptor names, as a handle: nothing is opened or closed by it, so no file system of the container is asked. */
export const handleOf = ({ task, identity }: FdTable, fd: number): Fd | undefined =>
  unlessClosed(() => identity.searching(() => openat(task.raw, name(fd), O_PATH)))

/**
 * A copy of a descriptor whose link in procfs says `kind`. Only of a kind that is known: to close a file of a file system
 * that the container serves may take for ever.
 *
 * @returns undefined for a closed one, or of another kind
 * @throws {ContinueError} before 6.9 for a thread that is not the first of its process: its table may be another
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
