import type { Register } from './sockets.ts'

/** A container's init takes milliseconds to hand over, once its runtime has returned; on a busy machine more. */
const PATIENCE_MS = 2000

interface Early {
  readonly timer: NodeJS.Timeout
  readonly admit: () => void
  readonly drop: () => void
}

export interface EarlyOptions {
  readonly isKnown: (handover: Parameters<Register>[0]) => boolean
  /** Is anybody else connected who has not said all: the init of some container, perhaps? */
  readonly othersWait: () => boolean
  readonly refuse: (message: string) => void
}

/**
 * `crun run --detach` returns while the container's init has still to hand over, so a process that is exec'd into it may be
 * there first. It waits until the init has come: taken as one of an unknown container, it would get nothing.
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

  /** Does nobody wait? */
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
