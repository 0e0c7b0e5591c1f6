import { EPOLLIN } from '../../abi/socket.ts'
import { Alarm, now, timerfd } from '../../kernel/clock.ts'
import type { Epoll } from '../../kernel/epoll.ts'
import { closeRaw, type Fd } from '../../kernel/fd.ts'
import { type Slots, STATE } from '../../link/journal.ts'
import { counted } from '../../shared/texts.ts'
import { LxcProxyDeadlines } from '../lxc/lxc-proxy.ts'
import { continueLostCalls, InheritedCalls } from '../tables/inherited-calls.ts'
import type { SharedState } from '../thread/shared-state.ts'

export interface ListenersDependencies {
  readonly epoll: Epoll
  readonly slots: Slots
  /** Called when all tasks of a listener have ended and its descriptor is closed. */
  readonly onGone: (listener: number) => void
  readonly onFault: (message: string) => void
}

/** The interval at which closing a listener without tasks is tried again while one of its calls is in flight. */
const LINGER_MS = 50

/** How long a call whose callers have all ended may take before it counts as one that hangs. */
const STRANDED_MS = 3000

/**
 * Adds, unmutes and closes the listeners and monitors' connections for which the threads wait, and offers the inherited
 * calls.
 *
 * Precondition: only the main thread calls this. It alone opens and closes listeners, so it cannot mistake a listener
 * for another which has got the same descriptor number.
 */
export class Listeners {
  readonly #state: SharedState
  readonly #dependencies: ListenersDependencies
  readonly #all = new Set<number>()
  readonly #deadlines: LxcProxyDeadlines
  readonly #inherited: InheritedCalls
  /** Listeners without tasks of which a call is in flight, and since when: `now()`. */
  readonly #lingering = new Map<number, number>()
  /** A timer that has expired and is never read: always readable. */
  readonly #ready = timerfd()
  #inherits = false

  constructor(state: SharedState, dependencies: ListenersDependencies) {
    this.#state = state
    this.#dependencies = dependencies
    this.#deadlines = new LxcProxyDeadlines(state.proxies, dependencies.onFault)
    new Alarm(this.#ready.raw, 1).ring()
    this.#inherited = new InheritedCalls(state.inherited, dependencies.epoll, this.#ready)
  }

  /** Returns the descriptor that is in the epoll set while there are inherited calls: see `InheritedCalls`. */
  get inherited(): number {
    return this.#ready.raw
  }

  /** Finds the inherited calls; the listeners added until `settle` are those of the previous engine. */
  inherit(failed: boolean): void {
    this.#inherits = true
    const { slots } = this.#dependencies
    // They are in flight from now on: else a container whose calls hang had as many more with each engine.
    for (const slot of this.#inherited.find(slots, failed)) {
      const { listener, container } = slots.of(slot)
      this.#state.countCall(listener, container, 1)
    }
  }

  /** Ends the hand-over from the previous engine. @param settled resolves when the inherited calls may be served */
  settle(settled: Promise<unknown>): void {
    this.#inherits = false
    void settled.then(() => this.#inherited.offer())
  }

  /**
   * Serves `fd` from now on and owns it: a listener, or the connection of a monitor of LXC.
   *
   * @param index the keeper's number of it
   */
  add(index: number, container: number, fd: Fd, isMonitor: boolean): void {
    const state = this.#state
    this.#all.add(index)
    state.listeners.fd[index] = fd.raw
    state.listeners.container[index] = container
    Atomics.store(state.listeners.dropped, index, 0)
    const generation = Atomics.add(state.listeners.generation, index, 1) + 1
    if (isMonitor) this.#deadlines.watch(index, fd.raw)
    else if (this.#inherits) this.#continueLost(index, fd.raw)
    this.#dependencies.epoll.add(fd, EPOLLIN, [index, generation])
    fd.release()
  }

  /**
   * Closes a listener although tasks under its filter may be left: their calls then fail with ENOSYS. Calls in flight
   * are answered first.
   */
  drop(index: number): void {
    if (!this.#all.has(index)) return
    const { fd, dropped, generation } = this.#state.listeners
    Atomics.store(dropped, index, 1)
    this.#dependencies.epoll.remove(fd[index]!)
    this.close(index, generation[index]!)
  }

  close(index: number, generation: number): void {
    const state = this.#state
    if (state.listeners.generation[index] !== generation || !this.#all.has(index)) return
    // First, and before the uses are counted: a thread that holds it from now on sees that it is not the listener of
    // its event any more.
    const next = Atomics.add(state.listeners.generation, index, 1) + 1
    if (Atomics.load(state.listeners.calls, index) > 0) {
      if (!this.#lingering.has(index)) this.#lingering.set(index, now())
      setTimeout(() => this.close(index, next), LINGER_MS)
      return
    }
    this.#all.delete(index)
    this.#lingering.delete(index)
    state.clearMuted(index)
    this.#deadlines.forget(index)
    closeRaw(state.listeners.fd[index]!)
    state.listeners.fd[index] = 0
    this.#dependencies.onGone(index)
  }

  /**
   * The number of calls that hang although all their callers have ended: in what another container serves, which lives
   * on. Its container may be started again, and leave others.
   */
  get stranded(): number {
    const { dropped } = this.#state.listeners
    // The callers of a dropped listener may live.
    const isHanging = ([index, since]: readonly [number, number]): boolean =>
      now() - since >= STRANDED_MS && Atomics.load(dropped, index) === 0
    const hanging = new Set([...this.#lingering].filter(isHanging).map(([index]) => index))
    if (hanging.size === 0) return 0
    const { slots } = this.#dependencies
    return slots.all().filter((at) => slots.state(at) !== STATE.free && hanging.has(slots.of(at).listener)).length
  }

  /** Closes all listeners, before this engine is killed: a thread that not even SIGKILL ends would keep them open. */
  abandon(): void {
    for (const index of this.#all) closeRaw(this.#state.listeners.fd[index]!)
  }

  /** Watches a container's muted listeners again. */
  unmute(container: number): void {
    // Every ending call asks for this: the first one has already done it.
    if (this.#state.muted(container) === 0) return
    const { container: containers, fd, generation } = this.#state.listeners
    for (const index of this.#all) {
      if (containers[index] !== container || !this.#state.clearMuted(index)) continue
      this.#dependencies.epoll.modify(fd[index]!, EPOLLIN, [index, generation[index]!])
    }
  }

  #continueLost(index: number, listener: number): void {
    const { slots, onFault } = this.#dependencies
    const count = continueLostCalls(slots, index, listener)
    if (count > 0) onFault(`Cannot serve ${counted(count, 'call')}: lost, and left to the kernel`)
  }
}
