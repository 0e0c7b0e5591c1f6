import { dup, type Fd } from '../../kernel/fd.ts'
import { isOver, isSeccompListener } from '../../kernel/seccomp.ts'
import type { Handover } from '../../runtimes/handover.ts'
import type { lookAtInit } from '../../runtimes/inspect.ts'
import type { Refuse } from './listen-socket.ts'
import type { Register } from './sockets.ts'

/** The longest wait for an init, which hands over milliseconds after its runtime has returned, or later under load. */
const PATIENCE_MS = 2000

interface Early {
  readonly timer: NodeJS.Timeout
  readonly admit: () => void
  readonly drop: () => void
}

export interface EarlyOptions {
  readonly isKnown: (handover: Parameters<Register>[0]) => boolean
  /** True if another connection, perhaps the init's, has not handed over yet. */
  readonly othersWait: () => boolean
  readonly look: typeof lookAtInit
  readonly refuse: Refuse
}

/**
 * Holds back hand-overs of which something is not known yet:
 * - Of an init, until another process has looked at it, see `lookAtInit`.
 * - Of an exec'd process, until the init of its container has handed over. `crun run --detach` returns before the init
 *   does so, and nothing would be served for an exec'd process of an unknown container.
 */
export class EarlyHandovers {
  readonly #register: Register
  readonly #options: EarlyOptions
  readonly #waiting = new Map<string, Early[]>()
  /** Those whose init is being looked at. */
  readonly #looks = new Map<Fd, Handover>()

  constructor(register: Register, options: EarlyOptions) {
    this.#register = register
    this.#options = options
  }

  readonly register: Register = (handover, fd, ...rest) => {
    const { creating, isLate, pid } = handover
    const isKnown = !creating && this.#options.isKnown(handover)
    if ((creating || (isLate && !isKnown)) && pid > 0) void this.#look(handover, fd, ...rest)
    else if (!isLate && !creating && this.#mayComeLater(handover, isKnown)) this.#wait(handover, fd, ...rest)
    else this.#register(handover, fd, ...rest)
  }

  /** Whether the container of an exec'd process may still be registered; one of the same id may be known. */
  #mayComeLater({ id, place }: Handover, isKnown: boolean): boolean {
    const isIt = (other: Handover): boolean =>
      other.id === id && (other.place === place || other.place === undefined || place === undefined)
    return [...this.#looks.values()].some(isIt) || (!isKnown && this.#options.othersWait())
  }

  /** True if no hand-over is held back. */
  get isEmpty(): boolean {
    return this.#waiting.size + this.#looks.size === 0
  }

  close(): void {
    for (const { timer, drop } of [...this.#waiting.values()].flat()) {
      clearTimeout(timer)
      drop()
    }
    this.#waiting.clear()
    for (const fd of this.#looks.keys()) fd[Symbol.dispose]()
    this.#looks.clear()
  }

  #admitNow(...handover: Parameters<Register>): void {
    try {
      this.#register(...handover)
    } catch (error) {
      this.#options.refuse((error as Error).message, 'failed')
    }
  }

  async #look(...[handover, fd, type, giver = {}]: Parameters<Register>): Promise<void> {
    const { id, creating, pid } = handover
    this.#looks.set(fd, handover)
    const { runtime } = giver
    try {
      // Both others are closed meanwhile.
      using connection = giver.connection && dup(giver.connection)
      using mounts = runtime?.mounts && dup(runtime.mounts)
      using look = await this.#options.look(pid)
      if (!this.#looks.delete(fd)) return
      this.#admitNow(handover, fd, type, {
        ...giver,
        ...(runtime ? { runtime: { ...runtime, mounts } } : {}),
        connection,
        look,
      })
    } catch (error) {
      if (!this.#looks.delete(fd)) return
      // Nobody is left who could call, as after a short command.
      const isEmpty = type === 'listener' && isSeccompListener(fd) && isOver(fd)
      fd[Symbol.dispose]()
      const fails = creating ? 'all its calls fail' : 'the call fails'
      if (!isEmpty)
        this.#options.refuse(
          `Cannot serve container ${id}: ${(error as Error).message}; ${fails} with ENOSYS`,
          'failed',
          id,
        )
    }
    if (creating) this.#admit(id)
  }

  #wait(...[handover, fd, ...rest]: Parameters<Register>): void {
    const { id } = handover
    const admit = (): void => this.#admitNow(handover, fd, ...rest)
    const timer = setTimeout(() => this.#admit(id), PATIENCE_MS)
    const drop = (): void => fd[Symbol.dispose]()
    this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), { timer, admit, drop }])
  }

  #admit(id: string): void {
    const waiting = this.#waiting.get(id) ?? []
    this.#waiting.delete(id)
    for (const { timer, admit } of waiting) {
      clearTimeout(timer)
      admit()
    }
  }
}
