import type { Container, ContainerHandles, ContainerNumbers } from '../../caller/identity/container.ts'
import { InheritedFds } from '../../caller/programs/fd-store.ts'
import { Fd } from '../../kernel/fd.ts'
import { map } from '../../kernel/shared-memory.ts'
import { Heartbeat, Slots } from '../../link/journal.ts'
import type { PolicyPart, ToEngine } from '../../link/messages.ts'
import { setInFlight } from '../../memories/counts-layout.ts'
import { delegates, maxPriorityOf } from '../../policy/policy.ts'
import { KeeperFdStore } from '../kept/keeper-fd-store.ts'
import { PersistentState } from '../kept/persistent-state.ts'
import { IdleWaker } from '../leader/dedicated-receiver.ts'
import { SharedState } from '../thread/shared-state.ts'
import type { MainRequest, ToThread } from '../thread/thread-messages.ts'
import { type HelperDependencies, HelperRequests } from './helper-requests.ts'
import { Listeners, type ListenersDependencies } from './listeners.ts'
import { RtPriority } from './rt-priority.ts'
import { type SharedData, Threads } from './threads.ts'
import type { WaitingWorker } from './waiting-worker.ts'

type Announced = Extract<ToEngine, { type: 'container' }>

export interface PoolOptions
  extends Pick<ListenersDependencies, 'epoll' | 'onGone'>,
    Pick<HelperDependencies, 'onFault' | 'onMounter' | 'onProgram'> {
  /** How many threads are started at first. */
  readonly threads: number
  /** The first of these threads, which is already started. */
  readonly first: WaitingWorker
  /** The threads' data, without what the pool makes itself. */
  readonly data: Omit<SharedData, 'state' | 'epoll' | 'inheritedReady'>
  readonly onReady: () => void
  readonly onHalfFull: () => void
  /** Called when every thread will know the changed policy of a container before it receives the next call. */
  readonly onPolicy: (container: ContainerNumbers) => void
  /** Called when half of all calls hang for callers that have ended: ends this engine, which frees their threads. */
  readonly onStranded: (why: string) => void
  /** Called when calls of a container have waited for other calls of it. */
  readonly onWaited: (container: ContainerNumbers) => void
}

/** Manages the engine's threads, containers and listeners, in the main thread, which serves no call itself. */
export class Pool {
  readonly #options: PoolOptions
  readonly #state = new SharedState()
  readonly #heartbeat: Heartbeat
  readonly #idleWaker: IdleWaker
  readonly #priority: RtPriority
  readonly #listeners: Listeners
  readonly #persistent: PersistentState
  readonly #inheritedFds = new InheritedFds()
  readonly #helpers: HelperRequests
  readonly #threads: Threads
  readonly #counts: ArrayBuffer
  readonly #containers = new Map<number, Container>()
  readonly #handles = new Map<number, readonly Fd[]>()
  #answered = 0
  /** Everything of the previous engine has arrived: what comes now is new. */
  #isSettled = false

  constructor(options: PoolOptions) {
    this.#options = options
    const { epoll, data, threads, first, onFault } = options
    const journal = map(new Fd(data.journal))
    this.#heartbeat = new Heartbeat(journal)
    this.#counts = map(new Fd(data.counts))
    this.#idleWaker = new IdleWaker(this.#state.dedicated, this.#state.listeners, epoll)
    this.#priority = new RtPriority(this.#state.lanes, onFault)
    const onGone = (listener: number): void => {
      this.#helpers.execs.listensNoMore(listener)
      options.onGone(listener)
    }
    this.#listeners = new Listeners(this.#state, { ...options, onGone, slots: new Slots(journal) })
    const discard = (raws: readonly number[]): void => this.#helpers.mounters.discard(raws.map((raw) => new Fd(raw)))
    const fdStore = new KeeperFdStore(new Fd(data.control), { close: discard, closeLater: discard })
    this.#persistent = new PersistentState(map(new Fd(data.persistent)), this.#state.persistentLocks, fdStore)
    const drop = (listener: number): void => this.#listeners.drop(listener)
    this.#helpers = new HelperRequests(this.#state, { ...options, drop, contexts: this.#persistent.contexts })
    const shared: SharedData = {
      ...data,
      epoll: epoll.raw,
      inheritedReady: this.#listeners.inherited,
      state: this.#state.buffer,
    }
    this.#threads = new Threads(threads, first, shared, this.#state, {
      ...options,
      onStart: (tell) => this.#introduce(tell),
      onErrand: (errand) => this.#run(errand),
    })
  }

  /** Adds a container. @param fds owned here from now on; they become the container's `handles` */
  announce({ container: bare, handles: names, walkable }: Announced, fds: readonly Fd[]): void {
    const { index } = bare
    const raws = fds.map(({ raw }, position) => [names[position], raw])
    const handles = fds.length > 0 ? (Object.fromEntries(raws) as ContainerHandles) : undefined
    const container = { ...bare, ...(handles && { handles }) }
    this.#containers.set(index, container)
    this.#handles.set(index, fds)
    this.#state.resetContainer(index)
    this.#persistent.admit(index, bare.serial)
    const [userns, pidns] = [fds[names.indexOf('userns')], fds[names.indexOf('pidns')]]
    if (userns && pidns && walkable) this.#helpers.walkers.admit(index, { userns, pidns })
    this.#priority.admit(index, container.rtHighest)
    this.#helpers.probes.admit(container, this.#isSettled)
    this.#threads.tell({ container })
  }

  /** Changes what may be done for a container. A call that was received before keeps the container as it was then. */
  change(numbers: ContainerNumbers, said: PolicyPart): void {
    const known = this.#containers.get(numbers.index)
    if (known?.serial === numbers.serial) {
      const { ofUser: _, barred: __, ...rest } = known
      const mayHaveTokens = known.mayHaveTokens === true || delegates(known.policy)
      const container = { ...rest, ...said, mayHaveTokens }
      this.#containers.set(numbers.index, container)
      this.#priority.raise(numbers.index, container.barred ? undefined : maxPriorityOf(container.policy))
      this.#threads.tell({ container })
    }
    this.#options.onPolicy(numbers)
  }

  forget(container: number): void {
    const known = this.#containers.get(container)
    if (known) this.#helpers.forget(known)
    this.#containers.delete(container)
    const heir = [...this.#containers.values()].find(({ userns }) => userns === known?.userns)
    this.#priority.forget(container, heir?.index)
    this.#persistent.forget(container)
    for (const fd of this.#handles.get(container) ?? []) fd[Symbol.dispose]()
    this.#handles.delete(container)
    this.#threads.tell({ forget: container })
  }

  /**
   * Serves `fd` from now on and owns it: a listener, or the connection of a monitor of LXC.
   *
   * @param index the keeper's number of it
   * @param by the process that has handed it over, which may be a runtime that this engine has started; or 0
   */
  listen(index: number, container: number, fd: Fd, isMonitor = false, by = 0): void {
    this.#listeners.add(index, container, fd, isMonitor)
    this.#helpers.execs.listens(index, container, by)
  }

  /** Takes over descriptors which the previous engine had stored with the keeper. @param fds owned here from now on */
  take(places: readonly number[], fds: readonly Fd[]): void {
    for (const [index, fd] of fds.entries()) this.#inheritedFds.add(places[index]!, fd)
  }

  /** Restores the persistent state from the descriptors taken so far, and finds the inherited calls. */
  inherit(failed: boolean): void {
    this.#persistent.restore(this.#inheritedFds)
    if (this.#persistent.contexts.size > 0) this.#helpers.help({ type: 'context' })
    this.#listeners.inherit(failed)
  }

  /** Takes over a mounter of the previous engine. @param socket owned here from now on, as is `pidfd` */
  takeOverMounter(socket: Fd, pidfd: Fd): void {
    this.#helpers.mounters.takeOver(socket, pidfd)
  }

  /** Ends the hand-over from the previous engine: its calls in flight may be served. */
  settle(): void {
    this.#persistent.keepOnly(this.#containers)
    this.#listeners.settle(this.#helpers.mounters.settled)
    this.#isSettled = true
  }

  /**
   * Beats if this engine serves: no call waits, or calls were answered since the last beat. Then wakes idle dedicated
   * receivers and muted listeners, and reports containers whose calls have waited.
   */
  beat(): void {
    const { answered } = this.#state
    const waits = this.#options.epoll.isReady
    if (!waits || answered !== this.#answered) this.#heartbeat.give()
    this.#answered = answered
    this.#idleWaker.look()
    this.#lookForStranded()
    for (const [container, numbers] of this.#containers) {
      setInFlight(this.#counts, container, Atomics.load(this.#state.containerCalls, container))
      if (this.#state.hasWaited(container)) this.#options.onWaited(numbers)
      // An expensive container may have one call in flight. If that call hangs, its other calls must not wait for ever.
      if (this.#state.muted(container) > 0 && !this.#state.inTurn.isDear(container)) this.#listeners.unmute(container)
    }
  }

  /** Lets the next engine go on where threads of this one hang too many or too long. */
  #lookForStranded(): void {
    const { stranded } = this.#listeners
    if (stranded >= this.#options.data.calls / 2) this.#endFor(`${stranded} calls hang whose callers have ended`)
    if (this.#threads.isBehind) this.#endFor('a call has hung while thousands of containers came and went')
  }

  #endFor(why: string): void {
    this.#listeners.abandon()
    this.#options.onStranded(why)
  }

  /** Sends a new thread all containers. */
  #introduce(tell: (message: ToThread) => void): void {
    this.#priority.renew()
    for (const container of this.#containers.values()) tell({ container })
  }

  #run(errand: MainRequest): void {
    switch (errand.type) {
      case 'gone':
        this.#listeners.close(errand.index, errand.generation)
        break
      case 'unmute':
        this.#listeners.unmute(errand.container)
        break
      case 'halfFull':
        this.#options.onHalfFull()
        break
      case 'exec':
      case 'device':
        this.#helpers.help(errand, this.#containers.get(errand.container))
        break
      default:
        this.#helpers.help(errand)
    }
  }
}
