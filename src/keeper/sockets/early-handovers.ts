import { existsSync } from 'node:fs'
import type { Fd } from '../../kernel/fd.ts'
import { lookAtInit } from '../../runtimes/inspect.ts'
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
  readonly refuse: Refuse
}

/**
 * Holds back hand-overs of which something is not known yet:
 * - Of an exec'd process, until the init of its container has handed over. `crun run --detach` returns before the init
 *   does so, and nothing would be served for an exec'd process of an unknown container.
 * - Of a container of LXC, until another process has looked at its init, see `lookAtInit`.
 */
export class EarlyHandovers {
  readonly #register: Register
  readonly #options: EarlyOptions
  readonly #waiting = new Map<string, Early[]>()
  /** Those whose init is being looked at. */
  readonly #looks = new Set<Fd>()

  constructor(register: Register, options: EarlyOptions) {
    this.#register = register
    this.#options = options
  }

  readonly register: Register = (handover, fd, ...rest) => {
    const { isKnown, othersWait } = this.#options
    const { creating, isLate, pid } = handover
    if (isLate && pid > 0 && !isKnown(handover)) void this.#look(handover, fd, ...rest)
    else if (!creating && !isLate && !isKnown(handover) && othersWait()) this.#wait(handover, fd, ...rest)
    else this.#register(handover, fd, ...rest)
    if (handover.creating) this.#admit(handover.id)
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
    for (const fd of this.#looks) fd[Symbol.dispose]()
    this.#looks.clear()
  }

  #admitNow(...handover: Parameters<Register>): void {
    try {
      this.#register(...handover)
    } catch (error) {
      this.#options.refuse((error as Error).message, 'failed')
    }
  }

  async #look(...[handover, fd, type]: Parameters<Register>): Promise<void> {
    this.#looks.add(fd)
    // Without memory for another process there is no look either.
    using look = await lookAtInit(handover.pid).catch(() => undefined)
    if (!this.#looks.delete(fd)) return
    if (look) this.#admitNow(handover, fd, type, { look })
    else {
      fd[Symbol.dispose]()
      const { id, pid } = handover
      const why = existsSync(`/proc/${pid}`)
        ? `its init, process ${pid}, lets nobody look at it, as while it executes a program; the call fails with ENOSYS`
        : `there is no process ${pid}`
      this.#options.refuse(`Cannot serve container ${id}: ${why}`, 'failed')
    }
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
