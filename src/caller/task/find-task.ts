import type { Tid } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import { PIDFD_THREAD } from '../../abi/process.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { openat, statx } from '../../kernel/files.ts'
import {
  numberInNamespace,
  parentUserNamespace,
  pidfdIsAlive,
  pidfdOpen,
  tidFromNamespace,
} from '../../kernel/pidfd.ts'

/** The namespaces in which the tasks of a container are. */
interface Bounds {
  /** The pid namespace of the container's init. */
  readonly pidns: Handle
  /** The inode number of the container's initial user namespace. */
  readonly userns: bigint
  /** The host's /proc. */
  readonly proc: Handle
}

/** The caller from whose point of view a task's number is resolved. */
export interface TaskView {
  /** undefined if the container's namespaces are not known; then no task counts as within them. */
  readonly bounds: Bounds | undefined
  /**
   * The caller's number, its `/proc/TID`, and a check that the call still waits, so that both still belong to the
   * caller.
   */
  readonly tid: Tid
  readonly task: Handle
  readonly mustWait: () => void
}

interface Pinned {
  readonly tid: Tid
  readonly pidfd: Fd
}

const NS_PID = Buffer.from('ns/pid\0')
/** Maximum depth of nested user namespaces (linux/kernel/user_namespace.c create_user_ns()). */
const NESTED = 33
const NOT_FOUND: Readonly<Record<number, ReasonCode>> = {
  [errnos.ESRCH]: 'noSuchTask',
  [errnos.ENOENT]: 'noSuchTask',
  [errnos.ENOTTY]: 'pidNotTranslated',
}

/**
 * Finds the process or thread that the caller means by a number of its *own* pid namespace, 0 for itself. Natively
 * the kernel resolves the number in the caller's namespace; in the engine's namespace it belongs to another task.
 *
 * @throws {ContinueError} if there is none; the kernel then reports the error by its own lookup
 */
export function findTask(view: TaskView, pid: number): Pinned {
  if (pid === 0) return findSelf(view)
  using namespace = openat(view.task.raw, NS_PID, O_RDONLY)
  view.mustWait()
  return pinWithin(view.bounds, () => tidFromNamespace(namespace, pid))
}

/**
 * Holds another task of the container by a pidfd. The task must be in the container's initial user namespace or a
 * descendant, where the kernel would honour a capability of the caller if it checked capabilities by namespace, and
 * in the pid namespace of the init or a descendant, which excludes tasks that the host moved into the user namespace
 * for itself. In a container that shares the host's pid namespace the user namespace alone decides. A task never
 * leaves either namespace.
 *
 * The pidfd is opened first: what is then read by the number belongs to the task if it still has this number
 * afterwards.
 *
 * @param number returns the task's number in our pid namespace
 * @throws {ContinueError} if there is no such task
 */
export function pinWithin(bounds: Bounds | undefined, number: () => Tid): Pinned {
  let pidfd: Fd | undefined
  try {
    const tid = number()
    pidfd = pin(tid)
    const isOfContainer = bounds && isWithin(bounds, tid)
    if (number() !== tid || !pidfdIsAlive(pidfd)) throw new ContinueError('noSuchTask')
    if (!isOfContainer) throw new ContinueError('outsideContainer')
    return { tid, pidfd }
  } catch (error) {
    pidfd?.[Symbol.dispose]()
    throw continueFor(error, NOT_FOUND)
  }
}

/** Holds the caller itself, which is in the container and keeps its number as long as the call waits. */
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

/** Opens a pidfd of a process or thread. @throws {ContinueError} if there is none, or the kernel cannot hold it */
export function pin(tid: Tid): Fd {
  try {
    return pidfdOpen(tid, PIDFD_THREAD)
  } catch (error) {
    // Before Linux 6.9 only whole processes have pidfds, under the number of their first thread.
    if (!isErrno(error, 'EINVAL')) throw continueFor(error, { [errnos.ESRCH]: 'noSuchTask' })
  }
  try {
    return pidfdOpen(tid)
  } catch (error) {
    throw continueFor(error, {
      [errnos.ESRCH]: 'noSuchTask',
      [errnos.EINVAL]: 'threadNotPinned',
      [errnos.ENOENT]: 'threadNotPinned',
    })
  }
}

/** Converts an errno of `reasons` to a ContinueError; any other error is returned as it is. */
function continueFor(error: unknown, reasons: Readonly<Record<number, ReasonCode>>): unknown {
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
