import type { Tid } from '../abi/brand.ts'
import { capBit } from '../abi/capability.ts'
import { PassOn } from '../calls/verdict.ts'
import type { Fd } from '../kernel/fd.ts'
import { O_DIRECTORY, O_PATH, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'
import { keepsNumber } from '../kernel/pidfd.ts'
import type { Asker } from './asker.ts'
import type { Container } from './container.ts'
import type { Desk } from './desk.ts'
import type { Start } from './lookup.ts'
import { findTask, findTaskHere, type View } from './task.ts'

/** Where a path of the caller starts. Most paths need neither its root nor its procfs, so they are opened when they do. */
export class CallerStart implements Start {
  readonly base: Handle
  readonly #desk: Desk
  readonly #container: Container
  readonly #asker: Asker
  #root: Fd | undefined

  constructor(desk: Desk, container: Container, asker: Asker, base: Fd, isRoot: boolean) {
    this.#desk = desk
    this.#container = container
    this.#asker = asker
    this.base = base
    this.#root = isRoot ? base : undefined
  }

  get proc(): Handle {
    return this.#desk.proc
  }

  get numbers(): Start['numbers'] {
    return [this.#asker.tid, this.#asker.status.tgid]
  }

  root(): Fd {
    this.#root ??= this.#asker.link('root')
    // What was opened by the number of a task that still waits is its own.
    this.#asker.mustWait()
    return this.#root
  }

  stand(): void {
    this.#desk.identity.stand(this.root())
  }

  process(): Fd {
    return this.looking(() => this.#asker.process)
  }

  /** A process may look at its own directory of procfs whatever its ids and capabilities. */
  looking<T>(action: () => T): T {
    return this.#desk.identity.searching(action)
  }

  lookingAtOther<T>(action: () => T): T {
    return this.#desk.identity.looking(action)
  }

  other(number: number, isOfHost: boolean): Fd {
    return this.looking(() => this.#other(number, isOfHost))
  }

  /**
   * The directory of another task of the container in our procfs, for who may look at any: whether the kernel would let the
   * caller look at just this one takes more than we can see of it (linux/kernel/ptrace.c __ptrace_may_access()).
   */
  #other(number: number, isOfHost: boolean): Fd {
    const { status, userns } = this.#asker
    const isPtracer = (status.effective & capBit('SYS_PTRACE')) !== 0n && userns === Number(this.#container.userns)
    if (!isPtracer) throw new PassOn('crossesProc')
    const view = viewOf(this.#desk, this.#container, this.#asker)
    const { tid, pidfd } = isOfHost ? findTaskHere(view, number as Tid) : findTask(view, number)
    using held = pidfd
    const directory = openat(view.proc.raw, cstring(`${tid}`), O_PATH | O_DIRECTORY)
    if (keepsNumber(held)) return directory
    directory[Symbol.dispose]()
    throw new PassOn('noSuchTask')
  }
}

/** From where a caller looks at tasks. */
export function viewOf({ proc }: Desk, container: Container, asker: Asker): View {
  const { tid, task } = asker
  return { container, tid, task, proc, mustWait: () => asker.mustWait() }
}
