import type { HostId } from '../../abi/brand.ts'
import { capBit } from '../../abi/capability.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { Container } from '../identity/container.ts'
import type { CallerTask } from '../task/caller-task.ts'
import type { ThreadContext } from '../thread-context.ts'
import type { LookupStart } from './lookup.ts'

/** Where a path of the caller starts. Most paths need neither its root nor its procfs, so they are opened when they do. */
export class CallerStart implements LookupStart {
  readonly base: Handle
  readonly #desk: ThreadContext
  readonly #container: Container
  readonly #asker: CallerTask
  #root: Fd | undefined

  constructor(desk: ThreadContext, container: Container, asker: CallerTask, base: Fd, isRoot: boolean) {
    this.#desk = desk
    this.#container = container
    this.#asker = asker
    this.base = base
    this.#root = isRoot ? base : undefined
  }

  get proc(): Handle {
    return this.#desk.proc
  }

  get numbers(): LookupStart['numbers'] {
    return [this.#asker.tid, this.#asker.status.tgid]
  }

  get fsuid(): HostId {
    return this.#asker.status.uids[3]
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

  /** Its capability counts in its own user namespace, which is the walker's only if it is the container's first one. */
  get isPtracer(): boolean {
    if ((this.#asker.status.effective & capBit('SYS_PTRACE')) === 0n) return false
    return this.looking(() => this.#asker.userns) === Number(this.#container.userns)
  }
}
