import { ContinueError } from '../../calls/verdict.ts'
import { isErrno } from '../../kernel/error.ts'
import { Fd } from '../../kernel/fd.ts'
import type { Container } from '../identity/container.ts'
import { asContinue, type CallerTask } from '../task/caller-task.ts'
import type { TaskView } from '../task/find-task.ts'
import { lookup } from './lookup.ts'
import { CallerStart } from './lookup-start.ts'
import type { LookupRequest, LookupServices, LookupStart } from './lookup-types.ts'
import { isAbsolute } from './path-bytes.ts'

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
   * admits only processes of the container's user namespace.
   */
  #lookup(start: LookupStart, goal: LookupRequest): Fd {
    const { mayBlock, walk } = this.#context
    try {
      return this.#callerTask.own(lookup(start, goal, mayBlock))
    } catch (error) {
      if (!isErrno(error, 'EACCES')) throw unresolved(error)
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
