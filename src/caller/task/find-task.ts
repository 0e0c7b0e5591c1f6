import type { Tid } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { O_DIRECTORY, O_RDONLY } from '../../abi/fcntl.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { openat, statx } from '../../kernel/files.ts'
import { parentNamespace, pidfdIsAlive, tidFromNamespace } from '../../kernel/pidfd.ts'
import { numbersIn } from '../../kernel/process.ts'

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
const STATUS = Buffer.from('status\0')
/** Maximum depth of nested user namespaces (linux/kernel/user_namespace.c create_user_ns()); of pid namespaces, 32. */
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
  const { bounds, task, tid, mustWait } = view
  if (pid === 0) return holdWhile(mustWait, { tid, pidfd: pin(task, '.') })
  using namespace = openat(task.raw, NS_PID, O_RDONLY)
  mustWait()
  try {
    return pinWithin(bounds, () => tidFromNamespace(namespace, pid))
  } catch (error) {
    const own = error instanceof ContinueError && error.why.code === 'pidNotTranslated' && findOwn(view, pid)
    if (!own) throw error
    return own
  }
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
    if (!bounds) throw new ContinueError('outsideContainer')
    pidfd = pin(bounds.proc, `${tid}`)
    const isOfContainer = isWithin(bounds, tid)
    if (number() !== tid || !pidfdIsAlive(pidfd)) throw new ContinueError('noSuchTask')
    if (!isOfContainer) throw new ContinueError('outsideContainer')
    return { tid, pidfd }
  } catch (error) {
    pidfd?.[Symbol.dispose]()
    throw continueFor(error, NOT_FOUND)
  }
}

/**
 * Finds the caller itself, or the first thread of its process, by the numbers that procfs shows: before Linux 6.11 no
 * others can be translated. Both are in the container.
 */
function findOwn({ task, tid, mustWait }: TaskView, pid: number): Pinned | undefined {
  const numbers = numbersIn(task.raw, STATUS)
  const at = numbers.at(-1)?.indexOf(pid) ?? -1
  if (at < 0) return undefined
  const [, tgid] = numbers[0]!
  return holdWhile(
    mustWait,
    at === 0 ? { tid, pidfd: pin(task, '.') } : { tid: tgid as Tid, pidfd: pin(task, `../${tgid}`) },
  )
}

/** Holds the caller or its process, which keep their numbers as long as the call waits. */
function holdWhile(mustWait: () => void, found: Pinned): Pinned {
  try {
    mustWait()
    return found
  } catch (error) {
    found.pidfd[Symbol.dispose]()
    throw error
  }
}

/**
 * Opens the directory of a process or thread in procfs, which pidfd_send_signal(2) takes for a pidfd: unlike
 * pidfd_open(2) before Linux 6.9, also that of a thread.
 *
 * @param name relative to `directory`, of an entry of procfs's root
 * @throws {SyscallError} ENOENT if there is none
 * @see linux/kernel/signal.c pidfd_to_pid()
 */
export const pin = (directory: Handle, name: string): Fd =>
  openat(directory.raw, Buffer.from(`${name}\0`), O_RDONLY | O_DIRECTORY)

/** Converts an errno of `reasons` to a ContinueError; any other error is returned as it is. */
function continueFor(error: unknown, reasons: Readonly<Record<number, ReasonCode>>): unknown {
  const code = error instanceof SyscallError ? reasons[error.errno] : undefined
  return code ? new ContinueError(code) : error
}

const isWithin = ({ pidns, userns, proc }: Bounds, tid: Tid): boolean =>
  isBelow(proc, `${tid}/ns/pid`, statx(pidns.raw).ino) && isBelow(proc, `${tid}/ns/user`, userns)

/** Tells whether a namespace of a task is the one with this inode number, or below it. */
function isBelow(proc: Handle, name: string, inode: bigint): boolean {
  let namespace: Fd | undefined = openat(proc.raw, Buffer.from(`${name}\0`), O_RDONLY)
  for (let depth = 0; namespace && depth <= NESTED; depth++) {
    using owned: Fd = namespace
    if (statx(owned.raw).ino === inode) return true
    namespace = parentNamespace(owned)
  }
  return false
}
