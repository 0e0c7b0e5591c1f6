import { errnos } from '../abi/errno.ts'
import { PassOn } from '../calls/verdict.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { type Asker, orPass } from './asker.ts'
import type { Container } from './container.ts'
import type { Desk } from './desk.ts'
import { type Goal, lookup, type Start } from './lookup.ts'
import { isAbsolute } from './path.ts'
import { CallerStart, viewOf } from './start.ts'
import type { View } from './task.ts'

/** Resolves the paths of one call, as its caller. */
export class Paths {
  readonly #desk: Desk
  readonly #container: Container
  readonly #asker: Asker

  constructor(desk: Desk, container: Container, asker: Asker) {
    this.#desk = desk
    this.#container = container
    this.#asker = asker
  }

  resolve(dirfd: number, goal: Goal): Fd {
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
  get view(): View {
    return viewOf(this.#desk, this.#container, this.#asker)
  }

  /** Looks up as the caller; where only its own user namespace is let in, its walker does. */
  #lookup(start: Start, goal: Goal): Fd {
    const { mayBlock, walk } = this.#desk
    try {
      return this.#asker.own(lookup(start, goal, mayBlock))
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      if (error.errno !== errnos.EACCES)
        throw new PassOn(error.errno === errnos.ELOOP ? 'crossesProc' : 'pathNotResolved', error.errno)
    }
    return orPass('pathNotResolved', () => this.#asker.own(walk(this.#container, start, this.#asker.status, goal)))
  }
}
