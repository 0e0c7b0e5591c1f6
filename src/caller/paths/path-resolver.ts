import { errnos } from '../../abi/errno.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import { Fd } from '../../kernel/fd.ts'
import type { Container } from '../identity/container.ts'
import { asContinue, type CallerTask } from '../task/caller-task.ts'
import type { TaskView } from '../task/find-task.ts'
import type { ThreadContext } from '../thread-context.ts'
import { type LookupRequest, type LookupStart, lookup } from './lookup.ts'
import { CallerStart } from './lookup-start.ts'
import { isAbsolute } from './path-bytes.ts'

/** Resolves the paths of one call, as its caller. */
export class PathResolver {
  readonly #desk: ThreadContext
  readonly #container: Container
  readonly #asker: CallerTask

  constructor(desk: ThreadContext, container: Container, asker: CallerTask) {
    this.#desk = desk
    this.#container = container
    this.#asker = asker
  }

  resolve(dirfd: number, goal: LookupRequest): Fd {
    const absolute = isAbsolute(goal.path)
    const base = absolute ? this.#asker.link('root') : this.#asker.base(dirfd)
    this.enter()
    return this.#lookup(new CallerStart(this.#desk, this.#container, this.#asker, base, absolute), goal)
  }

  /** Becomes the caller, after everything that is needed of it was opened. */
  enter(): void {
    const { status } = this.#asker
    this.#asker.mustWait()
    this.#desk.identity.enter(status)
  }

  /** From where the caller looks at tasks. */
  get view(): TaskView {
    const { tid, task } = this.#asker
    const { handles, userns } = this.#container
    const bounds = handles && { pidns: new Fd(handles.pidns), userns, proc: this.#desk.proc }
    return { bounds, tid, task, mustWait: () => this.#asker.mustWait() }
  }

  /** Looks up as the caller; where only a process of its own user namespace is let in, its walker does. */
  #lookup(start: LookupStart, goal: LookupRequest): Fd {
    const { mayBlock, walk } = this.#desk
    try {
      return this.#asker.own(lookup(start, goal, mayBlock))
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== errnos.EACCES) throw unresolved(error)
    }
    try {
      return this.#asker.own(walk(this.#container, start, this.#asker.status, goal))
    } catch (error) {
      throw unresolved(error)
    }
  }
}

function unresolved(error: unknown): unknown {
  const isLoop = error instanceof SyscallError && error.errno === errnos.ELOOP
  return isLoop ? new ContinueError('crossesProc', error.errno) : asContinue('pathNotResolved', error)
}
