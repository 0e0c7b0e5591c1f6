import { EPOLLIN, type Epoll } from '../../kernel/epoll.ts'
import { closeRaw, type Fd } from '../../kernel/fd.ts'
import { Alarm, timerfd } from '../../kernel/timer.ts'
import { Orphans } from '../journal/inherited-calls.ts'
import type { Slots } from '../journal/journal.ts'
import { passLost } from '../journal/lost-calls.ts'
import { ProxyDeadlines } from '../lxc/lxc-proxy-deadlines.ts'
import type { PoolState } from '../thread/shared-state.ts'

interface Parts {
  readonly epoll: Epoll
  readonly slots: Slots
  /** All its tasks have ended, its descriptor is closed. */
  readonly onGone: (listener: number) => void
  readonly onFault: (message: string) => void
}

/** How often a listener whose tasks have ended is looked at again while a call of it is still in flight. */
const LINGER_MS = 50

/** The listeners and connections that the threads wait for, and the calls that came from an engine before this one. */
export class Listeners {
  readonly #state: PoolState
  readonly #parts: Parts
  readonly #all = new Set<number>()
  readonly #deadlines: ProxyDeadlines
  readonly #orphans: Orphans
  /** Readable for ever. */
  readonly #ready = timerfd()
  #inherits = false

  constructor(state: PoolState, parts: Parts) {
    this.#state = state
    this.#parts = parts
    this.#deadlines = new ProxyDeadlines(state.proxies, parts.onFault)
    new Alarm(this.#ready.raw, 1).ring()
    this.#orphans = new Orphans(state.orphans, parts.epoll, this.#ready)
  }

  /** What is readable while there are orphans. */
  get orphans(): number {
    return this.#ready.raw
  }

  /** What follows is what an engine before this one had. */
  inherit(failed: boolean): void {
    this.#inherits = true
    this.#orphans.find(this.#parts.slots, failed)
  }

  /** All of it is here. @param settled resolves when its calls in flight may be served */
  settle(settled: Promise<unknown>): void {
    this.#inherits = false
    void settled.then(() => this.#orphans.offer())
  }

  /**
   * Serves `fd` from now on and owns it: a listener, or the connection of a monitor of LXC.
   *
   * @param index the keeper's number of it
   */
  add(index: number, container: number, fd: Fd, isMonitor: boolean): void {
    const state = this.#state
    this.#all.add(index)
    state.listenerFd[index] = fd.raw
    state.listenerContainer[index] = container
    const generation = Atomics.add(state.listenerGeneration, index, 1) + 1
    if (isMonitor) this.#deadlines.watch(index, fd.raw)
    else if (this.#inherits) this.#passLost(index, fd.raw)
    this.#parts.epoll.add(fd, EPOLLIN, [index, generation])
    fd.release()
  }

  close(index: number, generation: number): void {
    const state = this.#state
    if (state.listenerGeneration[index] !== generation || !this.#all.has(index)) return
    if (Atomics.load(state.listenerCalls, index) > 0 || this.#orphans.some) {
      setTimeout(() => this.close(index, generation), LINGER_MS)
      return
    }
    this.#all.delete(index)
    state.clearMuted(index)
    this.#deadlines.forget(index)
    Atomics.add(state.listenerGeneration, index, 1)
    closeRaw(state.listenerFd[index]!)
    state.listenerFd[index] = 0
    this.#parts.onGone(index)
  }

  /** Watches those again that waited for the cap of their container. */
  unmute(container: number): void {
    const { listenerContainer, listenerFd, listenerGeneration } = this.#state
    for (const index of this.#all) {
      if (listenerContainer[index] !== container || !this.#state.clearMuted(index)) continue
      this.#parts.epoll.modify(listenerFd[index]!, EPOLLIN, [index, listenerGeneration[index]!])
    }
  }

  #passLost(index: number, listener: number): void {
    const { slots, onFault } = this.#parts
    const count = passLost(slots, index, listener)
    if (count > 0) onFault(`Cannot serve ${count} calls: they were lost, and are left to the kernel`)
  }
}
