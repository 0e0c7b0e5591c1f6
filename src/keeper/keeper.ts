import { setTimeout as sleep } from 'node:timers/promises'
import type { ContainerNumbers } from '../caller/identity/container.ts'
import { isRefusal } from '../calls/record.ts'
import { now } from '../kernel/clock.ts'
import type { Fd } from '../kernel/fd.ts'
import { isOver, isSeccompListener } from '../kernel/seccomp.ts'
import { Heartbeat, Slots } from '../link/journal.ts'
import type { ToKeeper } from '../link/messages.ts'
import type { RestartCause } from '../memories/daemon-totals.ts'
import { effectiveLimits, type Limits } from '../policy/limits.ts'
import { lookAtInit } from '../runtimes/inspect.ts'
import { counted } from '../shared/texts.ts'
import { Admission, announce, keptOf, LimitError, requireRoom, restoreContainers } from './containers/admission.ts'
import { PassThrough } from './containers/pass-through.ts'
import { type ContainerEntry, Registry } from './containers/registry.ts'
import { Control } from './control/control.ts'
import type { EngineProcess } from './engines/engine-process.ts'
import { EngineSupervisor } from './engines/engine-supervisor.ts'
import type { DaemonFacts, Feed } from './feed/feed.ts'
import { Readers } from './feed/readers.ts'
import { Records } from './log/records.ts'
import { EngineHandover } from './persist/engine-handover.ts'
import { LIMIT_PER_CONTAINER } from './persist/fd-store.ts'
import { PersistedState } from './persist/persisted-state.ts'
import type { HistoryOptions, KeeperOptions, Reloaded } from './process/events.ts'
import { Reactor } from './process/reactor.ts'
import { EarlyHandovers } from './sockets/early-handovers.ts'
import type { Acceptor, Refuse } from './sockets/listen-socket.ts'
import { openSockets, type Register } from './sockets/sockets.ts'

/** Interval at which records are drained without a request, and the engine's heartbeat is checked. */
const LOOK_MS = 1000
/** The number of threads at first: the leader and its deputy. More start when a call comes and none is parked. */
const THREADS = 2
/** Longest wait for connections that are handing over; an early exec alone waits for 2 seconds. */
const QUIET_MS = 5000
/** The same for connections that came while the engine was being ended. It is short, because calls wait meanwhile. */
const QUIET_AGAIN_MS = 500
const QUIET_LOOK_MS = 5
/** Longest wait for an engine that does not end, and for hand-overs before it: systemd waits 5 s for all of it. */
const LEAVE_MS = 1500
/** Longest wait until history is written. */
const SETTLE_MS = 500

async function waitFor(condition: () => boolean, patience: number): Promise<void> {
  for (const end = now() + patience; !condition() && now() < end; ) await sleep(QUIET_LOOK_MS)
}

const limitsFor = ({ callsPerContainer, listenersPerContainer }: Limits): DaemonFacts['limits'] => ({
  callsPerContainer,
  listenersPerContainer,
  kept: LIMIT_PER_CONTAINER,
})

interface Starting {
  ready(): void
  failed(error: Error): void
}

/**
 * Receives the listeners from the runtimes, holds them and starts the engine, which serves them. The keeper decides
 * nothing about a call: it tells the engine once per container what the engine may do for it.
 *
 *   state     event                                    next      method
 *   starting  the first engine is ready                serving   #ready: start() returns
 *             the engine ends, no container is known   closed    #engineEnded: start() throws
 *             the engine ends, containers were kept    serving   #engineEnded: as in the state serving
 *   serving   the engine ends, the next one starts     serving   #engineEnded: calls wait for it
 *             engines fail all the time                passing   #engineEnded: PassThrough answers calls
 *   passing   an engine is about to be started         serving   #stopPassing
 *   serving,  an upgrade                               quiet     quiesce: the engine ends, all is stored, calls wait
 *   passing   SIGTERM, with a service manager          leaving   detach: the same, and the process exits
 *   quiet     the new program could not be executed    serving   resume
 *   any       the end                                  closed    close
 */
export class Keeper {
  readonly #options: KeeperOptions
  #limits: Limits
  readonly #reactor: Reactor
  readonly #registry = new Registry()
  readonly #early = new EarlyHandovers((...said) => this.#register(...said), {
    isKnown: (handover) => this.#registry.known(handover) !== undefined,
    // `size` includes the connection whose hand-over is being registered.
    othersWait: () => this.#sockets.some(({ size }) => size > 1),
    look: lookAtInit,
    refuse: (...refusal) => this.#refuse(...refusal),
  })
  readonly #admission: Admission
  readonly #state: PersistedState
  readonly #handover: EngineHandover
  readonly #sockets: readonly Acceptor[]
  readonly #records: Records
  readonly #readers: Readers
  readonly #control: Control
  readonly #engine: EngineSupervisor
  readonly #slots: Slots
  readonly #passThrough: PassThrough
  readonly #timer: NodeJS.Timeout
  /** Undefined once the first engine serves. */
  #starting: Starting | undefined
  /** When the next engine is tried, in milliseconds since 1970; undefined except in the state passing. */
  #nextEngine: number | undefined
  /** Why the last reload failed; undefined if it did not. */
  #notReloaded: string | undefined
  #closed = false
  #isLeaving = false

  /**
   * Starts a keeper with its engine.
   *
   * @returns the keeper, once its engine serves
   * @throws {Error} if a socket is in use, or the engine does not start and no container waits for it
   */
  static async start(options: KeeperOptions): Promise<Keeper> {
    const { keeper, ready } = Keeper.open(options)
    await ready
    return keeper
  }

  /** Does the same for a caller that has other work until the engine serves. @throws {Error} if a socket is in use */
  static open(options: KeeperOptions): { readonly keeper: Keeper; readonly ready: Promise<void> } {
    let starting: Starting | undefined
    const ready = new Promise<void>((resolve, failed) => {
      starting = { ready: resolve, failed }
    })
    return { keeper: new Keeper(options, starting!), ready }
  }

  private constructor(given: KeeperOptions, starting: Starting) {
    const options = this.#noting(given)
    this.#options = options
    this.#limits = effectiveLimits(options.limits)
    this.#starting = starting
    this.#admission = new Admission(options, this.#registry, (message, fds) => this.#engine.tell(message, fds))
    this.#reactor = new Reactor()
    this.#state = new PersistedState(options.manager)
    this.#sockets = this.#openSockets()
    this.#handover = new EngineHandover(this.#state, this.#reactor)
    const { memory } = this.#handover
    this.#readers = this.#openReaders()
    this.#control = this.#openControl()
    const { ring, counts, feed } = this.#readers
    feed.history.open(options.history)
    restoreContainers(this.#state, this.#registry, this.#admission, options.onEvent)
    this.#letOthersIn()
    this.#state.close()
    this.#records = new Records(ring, this.#registry, options)
    this.#slots = new Slots(memory)
    const memories = { ring, halfFull: () => this.drain(), counts, mode: options.arguments }
    this.#passThrough = new PassThrough(this.#reactor, this.#slots, memories, (listener) => this.#gone(listener))
    this.#engine = this.#startEngines(memory)
    this.#timer = setInterval(() => this.#look(), LOOK_MS)
  }

  /** The process id of the engine; undefined while there is no engine. */
  get enginePid(): number | undefined {
    return this.#engine.pid
  }

  /**
   * Whether the engine may still report calls: it serves, it has failed, or it has begun a call before it told us that
   * it serves. A call's record is in the ring before the call leaves its slot.
   */
  get mayServe(): boolean {
    return this.#starting === undefined || this.#slots.isAnyTaken
  }

  /** One line for `systemctl status`. */
  get status(): string {
    const next = this.#nextEngine && new Date(this.#nextEngine).toISOString()
    const failing = next && `engines keep failing: calls are left to the kernel until the next one is tried at ${next}`
    const refused = this.#notReloaded && `cannot reload: ${this.#notReloaded}`
    const all = `${counted(this.#registry.size, 'container')}, ${counted([...this.#registry.listeners].length, 'listener')}`
    return [all, failing, refused].filter(Boolean).join('; ')
  }

  /** What readers are shown: the daemon's own counters, and where history is kept. */
  get shown(): Pick<Feed, 'totals' | 'history'> {
    return this.#readers.feed
  }

  /**
   * Applies another configuration, which `resolve` already uses. The engine keeps running: what it got when it started
   * must be the same.
   *
   * @returns what has changed, once the engine uses it
   * @throws {Error} if that cannot be found out; nothing has changed then
   */
  async reload(limits: Partial<Limits>, containerLabel: boolean, history?: HistoryOptions): Promise<Reloaded> {
    const all = effectiveLimits(limits)
    const changed = this.#control.apply()
    this.#notReloaded = undefined
    this.#readers.feed.stands({ containerLabel, limits: limitsFor(all) })
    const flaw = this.#readers.feed.history.open(history)
    this.#limits = all
    for (const socket of this.#sockets) socket.limit = all.connections
    const { warnings, ...rest } = await changed
    return { ...rest, warnings: [...warnings, ...(flaw === undefined ? [] : [flaw])] }
  }

  /** @throws {Error} if running containers would lose their policy by another configuration */
  requirePolicies(resolve: KeeperOptions['resolve']): void {
    this.#control.requirePolicies(resolve)
  }

  /** Counts a reload, or takes it back, where the next program reads the count. @param by 1 or -1 */
  reloads(by: number): void {
    this.shown.totals.reload('done', by)
    this.#beat()
  }

  /** Notes a signal that orders a reload. */
  hangUp(): void {
    this.#options.onEvent({ type: 'reloadOrdered', by: 'SIGHUP', isForced: false })
  }

  /** Notes a signal that ends the service. @returns once that is kept, or the disk has had its time */
  async stops(by: string): Promise<void> {
    this.#readers.feed.stops(`the daemon was ended by ${by}`)
    await Promise.race([this.#readers.feed.settle(), sleep(SETTLE_MS)])
  }

  /** Counts a reload that failed. @param which what cannot be done @param why in a sentence */
  notReloaded(which: string, why: string): void {
    this.#notReloaded = why
    this.#readers.feed.notReloaded(`${which}: ${why}`)
    this.#beat()
  }

  /** Passes the records in the ring to `onRecord`. @param isOver the engine that wrote them has ended */
  drain(isOver = false): void {
    this.#records.drain(isOver)
  }

  /**
   * Ends the engine and stores what the next program in this process needs. Calls wait until that program serves them.
   * So the caller must execute the program, or call `resume`, at once.
   *
   * @throws {Error} if a signal has told the service to end
   */
  async quiesce(): Promise<void> {
    await this.#quiet(QUIET_MS)
    await this.#engine.hold()
    this.#handover.fds.store(this.#state, 'program')
    this.drain(true)
    await Promise.race([this.#readers.feed.settle(), sleep(SETTLE_MS)])
    // Whatever is handed over later is lost, so this comes late; what it brings to history is little.
    await this.#quiet(QUIET_AGAIN_MS)
    await Promise.race([this.#readers.feed.settle(), sleep(SETTLE_MS)])
    if (this.#isLeaving) throw new Error('it is told to end')
  }

  /** Ends the engine and stores what the next process of the service needs. Calls wait for that process. */
  async detach(): Promise<void> {
    this.#isLeaving = true
    await this.#quiet(LEAVE_MS, QUIET_AGAIN_MS)
    await Promise.race([this.#engine.hold(), sleep(LEAVE_MS)])
    this.#handover.fds.store(this.#state, 'process')
    await this.#quiet(QUIET_AGAIN_MS, QUIET_AGAIN_MS)
  }

  /** Starts an engine again after a `quiesce` whose program could not be executed. */
  resume(): void {
    if (this.#isLeaving) return
    this.#handover.fds.takeBack(this.#state)
    this.#engine.resume()
  }

  /** Closes all descriptors: waiting calls, and all later calls, then fail with ENOSYS. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    this.#passThrough.stop()
    this.#engine.close(this.mayServe)
    this.drain()
    // A connection that is closed is taken out of the store, of which the next process serves it.
    if (!this.#options.manager?.isThere) for (const socket of this.#sockets) socket.close()
    this.#control.close()
    this.#readers.close()
    this.#early.close()
    this.#registry.close()
    this.#handover.close()
    this.#reactor.close()
  }

  #startEngines(memory: ArrayBuffer): EngineSupervisor {
    const { calls, callsPerContainer } = this.#limits
    return new EngineSupervisor({
      reactor: this.#reactor,
      memories: { ...this.#handover.memories, ...this.#readers.memories },
      beat: new Heartbeat(memory),
      engine: {
        ...{ threads: this.#options.threads ?? THREADS, calls, callsPerContainer },
        arguments: this.#options.arguments ?? 'all',
      },
      pause: this.#options.restartPause,
      handOn: (tell) => this.#handover.handOn(tell),
      inventory: (tell) => this.#inventory(tell),
      hear: (...said) => this.#hear(...said),
      ended: (...ending) => this.#engineEnded(...ending),
      starting: () => this.#stopPassing(),
      follow: this.#options.successor && (() => this.#options.successor?.follow()),
    })
  }

  /** Tells the feed each event first. */
  #noting(options: KeeperOptions): KeeperOptions {
    const { onEvent, onRecord } = options
    return {
      ...options,
      onEvent: (event) => {
        this.#readers?.feed.note(event)
        this.#control?.note(event)
        onEvent(event)
      },
      onRecord: (record, id, hasEnded, args) => {
        if (!hasEnded && isRefusal(record)) this.#readers.feed.history.refused(record.container, record)
        onRecord(record, id, hasEnded, args)
      },
    }
  }

  #openReaders(): Readers {
    const { containerLabel = false, forUser = false, configPath, arguments: mode = 'all' } = this.#options
    const facts = { containerLabel, forUser, configPath, limits: limitsFor(this.#limits) }
    return new Readers(this.#state, { records: this.#limits.records, arguments: mode }, facts, (message) =>
      this.#options.onEvent({ type: 'fault', message }),
    )
  }

  #openControl(): Control {
    return new Control({
      options: this.#options,
      registry: this.#registry,
      state: this.#state,
      admission: this.#admission,
      feed: this.#readers.feed,
      tell: (message) => this.#engine.tell(message),
    })
  }

  /** Lets readers and administrators connect. @throws {Error} if the path of a socket is in use */
  #letOthersIn(): void {
    try {
      this.#readers.listen(this.#reactor, this.#options.feedSocketPath, this.#registry.entries)
      this.#control.listen(this.#reactor, this.#options.controlSocketPath)
    } catch (error) {
      this.#control.close()
      this.#readers.close()
      for (const socket of this.#sockets) socket.close()
      this.#reactor.close()
      throw error
    }
  }

  #look(): void {
    this.drain()
    this.#engine.look()
    this.#beat()
    this.#options.manager?.alive()
    this.#options.successor?.look()
  }

  #beat(): void {
    const { mounters, fds } = this.#handover
    const stuck = this.#slots.stuck(Date.now())
    this.#readers.feed.beat({ engine: this.#engine.servingPid, mounters: mounters.pids, kept: fds.containers, stuck })
  }

  /** Waits, within limits, for half-done hand-overs, because nothing stores them, and for the service manager. */
  async #quiet(patience: number, forManager = QUIET_MS): Promise<void> {
    await waitFor(() => this.#early.isEmpty && this.#sockets.every(({ isQuiet }) => isQuiet), patience)
    await waitFor(() => this.#options.manager?.isIdle !== false, forManager)
  }

  #openSockets(): readonly Acceptor[] {
    try {
      const { connections: limit } = this.#limits
      const refuse: Refuse = (...refusal) => this.#refuse(...refusal)
      return openSockets(this.#reactor, { ...this.#options, limit }, this.#early.register, refuse, this.#state)
    } catch (error) {
      this.#reactor.close()
      throw error
    }
  }

  /** Serves a listener or monitor that was handed over, or refuses and closes it: then its calls fail with ENOSYS. */
  #register(...[handover, fd, type, { runtime, by = 0, look } = {}]: Parameters<Register>): void {
    const isListener = type === 'listener' && isSeccompListener(fd)
    let listener: number | undefined
    try {
      if (type === 'listener' && !isListener)
        throw new Error(`Cannot serve container ${handover.id}: the descriptor is no seccomp listener`)
      const entry = this.#admission.entry(handover, runtime, look)
      requireRoom(entry, this.#limits.listenersPerContainer)
      listener = this.#registry.hold(entry, fd, type)
      this.#readers.feed.admitted(entry, { ...this.#options, ...(runtime ? { runtime } : {}) })
      if (type === 'listener') this.#keep(entry, listener, fd)
      this.#engine.tell({ type, listener, container: entry.container.index, by }, [fd])
      if (this.#nextEngine) this.#passThrough.serve(listener, { entry, fd, type })
    } catch (error) {
      const over = isListener && isOver(fd)
      if (listener !== undefined) this.#gone(listener)
      fd[Symbol.dispose]()
      // The only process under the filter may have ended before we looked at it. Then no call waits for us.
      if (!over) this.#refuse((error as Error).message, error instanceof LimitError ? 'limit' : 'failed', handover.id)
    }
  }

  #keep(entry: ContainerEntry, number: number, fd: Fd): void {
    if (entry.listeners === 1) this.#state.keepContainer(keptOf(entry))
    this.#state.keepListener({ number, container: entry.container.index, fd })
  }

  #inventory(tell: EngineProcess['tell']): void {
    for (const entry of this.#registry.entries) announce(entry, tell)
    for (const [listener, { entry, fd, type }] of this.#registry.listeners)
      tell({ type, listener, container: entry.container.index, by: 0 }, [fd])
  }

  #hear(message: ToKeeper, fds: readonly Fd[]): void {
    if (this.#handover.hear(message, fds)) return
    if (message.type === 'ready') this.#ready()
    else if (message.type === 'halfFull') this.drain()
    else if (message.type === 'gone') this.#gone(message.listener)
    else if (message.type === 'policyHolds') this.#control.policyHolds(message.container)
    else if (message.type === 'program') this.#program(message)
    else if (message.type === 'waited') this.#waited(message.container)
    else this.#options.onEvent(message)
  }

  #gone(listener: number): void {
    this.drain()
    const held = this.#registry.held(listener)
    if (held?.type === 'listener') this.#state.dropListener(listener, held.entry.container.index)
    const ended = this.#registry.release(listener)
    if (!ended && held) this.#readers.feed.changed(held.entry)
    if (!ended) return
    this.#readers.feed.ended(ended)
    this.#state.dropContainer(ended.container.index, ended.init)
    if (ended.handover.isLate) this.#state.keepLxcSets(this.#registry.lxcSets)
    this.#engine.tell({ type: 'forget', container: ended.container.index })
    const { id, barred } = ended.container
    this.#options.onEvent({ type: 'ended', id, barred })
  }

  #waited(container: ContainerNumbers): void {
    const named = this.#registry.named(container)
    if (!named || named.isOver) return
    const { id } = named.container
    this.#options.onEvent({ type: 'limit', id, limit: 'callsPerContainer', value: this.#limits.callsPerContainer })
  }

  #program({ container, ...end }: Extract<ToKeeper, { type: 'program' }>): void {
    this.#options.onEvent({ ...end, id: this.#registry.named(container)?.container.id ?? '' })
  }

  #refuse(...[message, cause, id]: Parameters<Refuse>): void {
    const entry = [...this.#registry.entries].find(({ container }) => container.id === id)
    const name = entry && this.#readers.feed.nameOf(entry)
    this.#options.onEvent({ type: 'refused', message, cause, id, name })
  }

  #ready(): void {
    if (!this.#starting) this.#options.onEvent({ type: 'engineStarted', pid: this.enginePid })
    this.#readers.feed.serves(this.enginePid)
    this.#control.serves()
    this.#beat()
    this.#starting?.ready()
    this.#starting = undefined
  }

  /** Lets calls wait for the next engine. If that does not start soon, calls are left to the kernel. */
  #engineEnded(how: string, cause: RestartCause, pause: number): void {
    this.drain(true)
    this.#readers.feed.engineEnded(pause)
    this.#control.engineEnded()
    if (this.#starting && this.#registry.size === 0) {
      this.close()
      this.#starting.failed(new Error(`Cannot start: the engine ${how}`))
      this.#starting = undefined
      return
    }
    // Calls of restored containers wait: the keeper serves them as if its first engine had ended later.
    this.#starting?.ready()
    this.#starting = undefined
    this.#options.onEvent({ type: 'engineEnded', how, cause, pause })
    if (!this.#closed) this.#beat()
    if (this.#closed || pause === 0) return
    this.#nextEngine = Date.now() + pause
    this.#passThrough.start(this.#registry.listeners)
  }

  #stopPassing(): void {
    this.#nextEngine = undefined
    this.#readers.feed.triesEngine()
    this.#passThrough.stop()
  }
}
