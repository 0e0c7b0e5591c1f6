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
  readonly refuse: (message: string) => void
}

/**
 * Holds back the hand-over of an exec'd process until the init of its container has handed over. `crun run --detach`
 * returns before the init does so, and nothing would be served for an exec'd process of an unknown container.
 */
export class EarlyExecs {
  readonly #register: Register
  readonly #options: EarlyOptions
  readonly #waiting = new Map<string, Early[]>()

  constructor(register: Register, options: EarlyOptions) {
    this.#register = register
    this.#options = options
  }

  readonly register: Register = (handover, fd, ...rest) => {
    const { isKnown, othersWait } = this.#options
    const isExec = !handover.creating && handover.started === undefined
    if (isExec && !isKnown(handover) && othersWait()) this.#wait(handover, fd, ...rest)
    else this.#register(handover, fd, ...rest)
    if (handover.creating) this.#admit(handover.id)
  }

  /** True if no hand-over is held back. */
  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  close(): void {
    for (const { timer, drop } of [...this.#waiting.values()].flat()) {
      clearTimeout(timer)
      drop()
    }
    this.#waiting.clear()
  }

  #wait(...[handover, fd, ...rest]: Parameters<Register>): void {
    const { id } = handover
    const admit = (): void => {
      try {
        this.#register(handover, fd, ...rest)
      } catch (error) {
        this.#options.refuse((error as Error).message)
      }
    }
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
