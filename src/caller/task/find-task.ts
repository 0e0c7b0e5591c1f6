import type { Tid } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import { PIDFD_THREAD } from '../../abi/pidfd.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { openat, statx } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import {
  numberInNamespace,
  parentUserNamespace,
  pidfdIsAlive,
  pidfdOpen,
  tidFromNamespace,
} from '../../kernel/pidfd.ts'

/** Where the tasks of a container are. */
interface Bounds {
  /** The pid namespace of its init. */
  readonly pidns: Handle
  /** The inode of its initial user namespace. */
  readonly userns: bigint
  /** The host's /proc. */
  readonly proc: Handle
}

/** From where a number is looked at. */
export interface TaskView {
  /** undefined: they are not known, and no task is in them. */
  readonly bounds: Bounds | undefined
  /** The caller, its `/proc/TID`, and a check that both are still what they were. */
  readonly tid: Tid
  readonly task: Handle
  readonly mustWait: () => void
}

interface Pinned {
  readonly tid: Tid
  readonly pidfd: Fd
}

const NS_PID = Buffer.from('ns/pid\0')
/** As deep as the kernel lets user namespaces nest; linux/kernel/user_namespace.c create_user_ns(). */
const NESTED = 33
const NOT_FOUND: Readonly<Record<number, ReasonCode>> = {
  [errnos.ESRCH]: 'noSuchTask',
  [errnos.ENOENT]: 'noSuchTask',
  [errnos.ENOTTY]: 'pidNotTranslated',
}

/**
 * Finds the task that the caller means by a number: of its *own* pid namespace, a process or a thread, 0 for itself.
 * Natively the kernel looks it up in the caller's namespace; we have another one, in which the number is somebody else's.
 *
 * @throws {ContinueError} the kernel says why, by its own lookup
 */
export function findTask(view: TaskView, pid: number): Pinned {
  if (pid === 0) return findSelf(view)
  using namespace = openat(view.task.raw, NS_PID, O_RDONLY)
  view.mustWait()
  return pinWithin(view.bounds, () => tidFromNamespace(namespace, pid))
}

/**
 * Holds another task of the container: one in its initial user namespace or below, which is where the kernel would let a
 * capability of the caller count if it asked for it by namespace; and in the pid namespace of its init or below, which
 * keeps out what the host moved into that user namespace for itself. A container that shares the host's pid namespace sees
 * all tasks of the host, and then it is the user namespace alone that tells. A task never leaves either.
 *
 * The descriptor is opened first. What is looked at by the number then was the task's if it has its number still.
 *
 * @param number gives its number here
 * @throws {ContinueError} if there is none
 */
export function pinWithin(bounds: Bounds | undefined, number: () => Tid): Pinned {
  let pidfd: Fd | undefined
  try {
    const tid = number()
    pidfd = pin(tid)
    const here = bounds && isWithin(bounds, tid)
    if (number() !== tid || !pidfdIsAlive(pidfd)) throw new ContinueError('noSuchTask')
    if (!here) throw new ContinueError('outsideContainer')
    return { tid, pidfd }
  } catch (error) {
    pidfd?.[Symbol.dispose]()
    throw passFor(error, NOT_FOUND)
  }
}

/** The caller is of the container, and has its number as long as it waits. */
function findSelf({ tid, mustWait }: TaskView): Pinned {
  const pidfd = pin(tid)
  try {
    mustWait()
    return { tid, pidfd }
  } catch (error) {
    pidfd[Symbol.dispose]()
    throw error
  }
}

/** Holds a task by its number, process or thread. @throws {ContinueError} if there is none, or the kernel cannot hold it */
export function pin(tid: Tid): Fd {
  try {
    return pidfdOpen(tid, PIDFD_THREAD)
  } catch (error) {
    // Before 6.9 there are descriptors of whole processes only, under the number of their first thread.
    if (!isErrno(error, 'EINVAL')) throw passFor(error, { [errnos.ESRCH]: 'noSuchTask' })
  }
  try {
    return pidfdOpen(tid)
  } catch (error) {
    throw passFor(error, {
      [errnos.ESRCH]: 'noSuchTask',
      [errnos.EINVAL]: 'threadNotPinned',
      [errnos.ENOENT]: 'threadNotPinned',
    })
  }
}

/** What a failed look at another task means; anything else is passed on as the failed look that it is. */
function passFor(error: unknown, reasons: Readonly<Record<number, ReasonCode>>): unknown {
  const code = error instanceof SyscallError ? reasons[error.errno] : undefined
  return code ? new ContinueError(code) : error
}

function isWithin({ pidns, userns, proc }: Bounds, tid: Tid): boolean {
  if (numberInNamespace(pidns, tid) === undefined) return false
  let namespace: Fd | undefined = openat(proc.raw, Buffer.from(`${tid}/ns/user\0`), O_RDONLY)
  for (let depth = 0; namespace && depth <= NESTED; depth++) {
    using owned: Fd = namespace
    if (statx(owned.raw).ino === userns) return true
    namespace = parentUserNamespace(owned)
  }
  return false
}
