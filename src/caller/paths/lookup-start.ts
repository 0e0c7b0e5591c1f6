import type { HostId } from '../../abi/brand.ts'
import { capBit } from '../../abi/capability.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { Container } from '../identity/container.ts'
import type { CallerTask } from '../task/caller-task.ts'
import type { LookupServices, LookupStart } from './lookup-types.ts'

/**
 * Opens what a lookup for the caller starts from. The caller's root and process directory are opened only when they
 * are needed, which is seldom.
 */
export class CallerStart implements LookupStart {
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
    if ((this.#callerTask.status.effective & capBit('SYS_PTRACE')) === 0n) return false
    return this.looking(() => this.#callerTask.userns) === Number(this.#container.userns)
  }
}
