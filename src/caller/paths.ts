import type { Tid } from '../abi/brand.ts'
import { type Cap, capMask } from '../abi/capability.ts'
import { errnos } from '../abi/errno.ts'
import { PassOn } from '../calls/verdict.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { O_DIRECTORY, O_PATH, openat } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { keepsNumber } from '../kernel/pidfd.ts'
import { type Asker, orPass } from './asker.ts'
import type { Container } from './container.ts'
import type { Desk } from './desk.ts'
import { type Goal, lookup, type Start } from './lookup.ts'
import { isAbsolute } from './path.ts'
import { findTask, findTaskHere, type View } from './task.ts'

/** What a process may look at in its own directory of procfs whatever its ids and capabilities. */
const OWN: readonly Cap[] = ['SYS_PTRACE', 'DAC_READ_SEARCH']

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
    const { tgid } = this.enter()
    return this.#lookup(this.#start(base, absolute, tgid), goal)
  }

  /** Becomes the caller, after everything that is needed of it was opened. */
  enter(): { readonly tgid: number } {
    const status = this.#asker.status
    this.#asker.mustWait()
    this.#desk.identity.enter(status)
    return status
  }

  /** From where the caller looks at tasks. */
  get view(): View {
    const { tid, task } = this.#asker
    return { container: this.#container, tid, task, proc: this.#desk.proc, mustWait: () => this.#asker.mustWait() }
  }

  /** Most paths need neither the root nor the procfs of the caller, so they are opened when they do. */
  #start(base: Fd, isRoot: boolean, tgid: number): Start {
    const { identity, proc } = this.#desk
    let opened = isRoot ? base : undefined
    const root = (): Fd => {
      opened ??= this.#asker.link('root')
      // What was opened by the number of a task that still waits is its own.
      this.#asker.mustWait()
      return opened
    }
    const looking = <T>(action: () => T): T => identity.looking(action, OWN)
    const process = (): Fd => looking(() => this.#asker.process)
    const other: Start['other'] = (number, isOfHost) => looking(() => this.#other(number, isOfHost))
    const lookingAtOther: Start['lookingAtOther'] = (action) => identity.looking(action)
    const stand = (): void => identity.stand(root())
    return { base, proc, root, looking, process, other, lookingAtOther, stand, numbers: [this.#asker.tid, tgid] }
  }

  /**
   * The directory of another task of the container in our procfs, for who may look at any: whether the kernel would let the
   * caller look at just this one takes more than we can see of it (linux/kernel/ptrace.c __ptrace_may_access()).
   */
  #other(number: number, isOfHost: boolean): Fd {
    const { status, userns } = this.#asker
    const isPtracer = (status.effective & capMask('SYS_PTRACE')) !== 0n && userns === Number(this.#container.userns)
    if (!isPtracer) throw new PassOn('crossesProc')
    const view = this.view
    const { tid, pidfd } = isOfHost ? findTaskHere(view, number as Tid) : findTask(view, number)
    using held = pidfd
    const directory = openat(view.proc.raw, cstring(`${tid}`), O_PATH | O_DIRECTORY)
    if (keepsNumber(held)) return directory
    directory[Symbol.dispose]()
    throw new PassOn('noSuchTask')
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
