import { Fd } from '../../kernel/fd.ts'
import { shutdown } from '../../kernel/socket.ts'
import type { LxcProxyState } from './lxc-proxy-state.ts'

/** A monitor waits 30 s for a reply (see lxc-proxy.ts); we end its connection before that. */
const DEADLINE_S = 20
const LOOK_MS = 1000

/**
 * Shuts down the connection of a monitor of LXC whose call hangs. This runs in the main thread, since the thread that
 * serves the call hangs too.
 */
export class LxcProxyDeadlines {
  readonly #words: LxcProxyState
  readonly #connections = new Map<number, number>()
  readonly #fault: (message: string) => void
  #timer: NodeJS.Timeout | undefined

  constructor(words: LxcProxyState, fault: (message: string) => void) {
    this.#words = words
    this.#fault = fault
  }

  watch(index: number, connection: number): void {
    this.#words.open(index)
    this.#connections.set(index, connection)
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS)
  }

  /** Stops watching a connection. Precondition: its descriptor is not closed yet. */
  forget(index: number): void {
    if (!this.#connections.delete(index)) return
    this.#words.close(index)
    if (this.#connections.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #look(): void {
    for (const [index, raw] of this.#connections) {
      if (this.#words.waiting(index) < DEADLINE_S) continue
      this.#words.end(index)
      this.#fault(`Cannot let a monitor of LXC wait any longer: a call of its container hangs for ${DEADLINE_S} s`)
      shutdown(new Fd(raw))
    }
  }
}
