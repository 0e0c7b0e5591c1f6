import type { HostId } from '../../abi/brand.ts'
import { capBit } from '../../abi/credentials.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { isErrno } from '../../kernel/error.ts'
import { Fd, type Handle } from '../../kernel/fd.ts'
import type { Container } from '../identity/container.ts'
import { asContinue, type CallerTask } from '../task/caller-task.ts'
import type { TaskView } from '../task/find-task.ts'
import { lookup } from './lookup.ts'
import { isAbsolute, type LookupRequest, type LookupServices, type LookupStart } from './lookup-types.ts'

/**
 * Opens what a lookup for the caller starts from. The caller's root and process directory are opened only when they
 * are needed, which is seldom.
 */
class CallerStart implements LookupStart {
  readonly base: Handle
  readonly #context: LookupServices
  readonly #container: Container
  readonly #callerTask: CallerTask
  #root: Fd | undefined

  constructor(context: LookupServices, container: Container, callerTask: CallerTask, base: Fd, isRoot: boolean) {
    this.#context = context
    this.#container = container
    this.#callerTask = callerTask
    this.base = base
    this.#root = isRoot ? base : undefined
  }

  get proc(): Handle {
    return this.#context.proc
  }

  get numbers(): LookupStart['numbers'] {
    return [this.#callerTask.tid, this.#callerTask.status.tgid]
  }

  get fsuid(): HostId {
    return this.#callerTask.status.uids[3]
  }

  root(): Fd {
    this.#root ??= this.#callerTask.link('root')
    // A descriptor that was opened by TID belongs to the caller only if the call still waits afterwards.
    this.#callerTask.mustWait()
    return this.#root
  }

  stand(): void {
    this.#context.identity.stand(this.root())
  }

  process(): Fd {
    return this.looking(() => this.#callerTask.process)
  }

  /** Adds CAP_DAC_READ_SEARCH: a process may look at its own directory of procfs whatever its ids and capabilities. */
  looking<T>(action: () => T): T {
    return this.#context.identity.searching(action)
  }

  /**
   * CAP_SYS_PTRACE of the caller counts in the caller's user namespace, which is the walker's only if it is the
   * container's initial user namespace.
   */
  get isPtracer(): boolean {
    return (this.#callerTask.status.effective & capBit('SYS_PTRACE')) !== 0n && this.isInInitialUserns
  }

  /** Whether the caller is in the container's initial user namespace. */
  get isInInitialUserns(): boolean {
    return this.looking(() => this.#callerTask.userns) === Number(this.#container.userns)
  }
}

/** Resolves the paths of one call with its caller's root directory, ids and groups. */
export class PathResolver {
  readonly #context: LookupServices
  readonly #container: Container
  readonly #callerTask: CallerTask

  constructor(context: LookupServices, container: Container, callerTask: CallerTask) {
    this.#context = context
    this.#container = container
    this.#callerTask = callerTask
  }

  resolve(dirfd: number, goal: LookupRequest): Fd {
    const absolute = isAbsolute(goal.path)
    const base = absolute ? this.#callerTask.link('root') : this.#callerTask.base(dirfd)
    this.enter()
    return this.#lookup(new CallerStart(this.#context, this.#container, this.#callerTask, base, absolute), goal)
  }

  /** Becomes the caller. What is needed of its `/proc/TID` must have been opened before. */
  enter(): void {
    const { status } = this.#callerTask
    this.#callerTask.mustWait()
    this.#context.identity.enter(status)
  }

  /** The caller's point of view for task numbers. */
  get view(): TaskView {
    const { tid, task } = this.#callerTask
    const { handles, userns } = this.#container
    const bounds = handles && { pidns: new Fd(handles.pidns), userns, proc: this.#context.proc }
    return { bounds, tid, task, mustWait: () => this.#callerTask.mustWait() }
  }

  /**
   * Looks up as the caller. If that fails with EACCES, the container's walker looks up, since a FUSE file system
   * admits only processes of the container's user namespace. In a child of that, the caller's capabilities are none of
   * the walker's.
   */
  #lookup(start: CallerStart, goal: LookupRequest): Fd {
    const { mayBlock, walk } = this.#context
    try {
      return this.#callerTask.own(lookup(start, goal, mayBlock))
    } catch (error) {
      if (!isErrno(error, 'EACCES') || !start.isInInitialUserns) throw unresolved(error)
    }
    try {
      return this.#callerTask.own(walk(this.#container, start, this.#callerTask.status, goal))
    } catch (error) {
      throw unresolved(error)
    }
  }
}

function unresolved(error: unknown): unknown {
  return isErrno(error, 'ELOOP') ? new ContinueError('crossesProc', error.errno) : asContinue('pathNotResolved', error)
}
