import { setTimeout as sleep } from 'node:timers/promises'
import { Heartbeat } from '../engine/journal/heartbeat.ts'
import { Slots } from '../engine/journal/slots.ts'
import type { ToKeeper } from '../engine/protocol/messages.ts'
import { now } from '../kernel/clock.ts'
import type { Fd } from '../kernel/fd.ts'
import { isOver, isSeccompListener } from '../kernel/seccomp.ts'
import { effectiveLimits, type Limits } from '../policy/config.ts'
import { Admission, announce, requireRoom } from './containers/admission.ts'
import { PassThrough } from './containers/pass-through.ts'
import { type ContainerEntry, Registry } from './containers/registry.ts'
import { restoreContainers } from './containers/restore-containers.ts'
import type { EngineProcess } from './engines/engine-process.ts'
import { EngineSupervisor } from './engines/engine-supervisor.ts'
import { Records } from './log/records.ts'
import { EngineHandover } from './persist/engine-handover.ts'
import { PersistedState } from './persist/persisted-state.ts'
import type { KeeperOptions } from './process/events.ts'
import { Reactor } from './process/reactor.ts'
import { EarlyExecs } from './sockets/early-execs.ts'
import type { Acceptor } from './sockets/listen-socket.ts'
import { openSockets, type Register } from './sockets/sockets.ts'

/** How often records are read that nobody called for, and the beat of the engine is looked for. */
const LOOK_MS = 1000
const THREADS = 4
/** Of handing over: an exec that is early waits for 2 seconds. */
const QUIET_MS = 5000
/** For who came in between: calls wait meanwhile. */
const QUIET_AGAIN_MS = 500
const QUIET_LOOK_MS = 5
/** For an engine that does not end. */
const LEAVE_MS = 1500

async function waitFor(condition: () => boolean, patience: number): Promise<void> {
  for (const end = now() + patience; !condition() && now() < end; ) await sleep(QUIET_LOOK_MS)
}

interface Starting {
  ready(): void
  failed(error: Error): void
}

/**
 * Receives the listeners from the runtimes, holds them and starts the engine, which serves them. It decides nothing about
 * a call: it says once per container what the engine may do for it.
 */
export class Keeper {
  readonly #options: KeeperOptions
  readonly #limits: Limits
  readonly #reactor: Reactor
  readonly #registry = new Registry()
  readonly #earlyExecs = new EarlyExecs((...said) => this.#register(...said), {
    isKnown: (handover) => this.#registry.known(handover) !== undefined,
    // Who is being heard is one of them.
    othersWait: () => this.#sockets.some(({ size }) => size > 1),
    refuse: (message) => this.#refuse(message),
  })
  readonly #admission: Admission
  readonly #state: PersistedState
  readonly #handover: EngineHandover
  readonly #sockets: readonly Acceptor[]
  readonly #records: Records
  readonly #engine: EngineSupervisor
  readonly #passThrough: PassThrough
  readonly #timer: NodeJS.Timeout
  /** Until the first engine serves. */
  #starting: Starting | undefined
  #passes = false
  #closed = false
  #isLeaving = false

  /** @returns once the engine serves @throws {Error} if the socket is in use or the engine does not start */
  static async start(options: KeeperOptions): Promise<Keeper> {
    let keeper: Keeper | undefined
    await new Promise<void>((ready, failed) => {
      keeper = new Keeper(options, { ready, failed })
    })
    return keeper!
  }

  private constructor(options: KeeperOptions, starting: Starting) {
    this.#options = options
    this.#limits = effectiveLimits(options.limits)
    this.#starting = starting
    this.#admission = new Admission(options, this.#registry, (message, fds) => this.#engine.tell(message, fds))
    this.#reactor = new Reactor()
    this.#state = new PersistedState(options.manager)
    this.#sockets = this.#openSockets()
    this.#handover = new EngineHandover(this.#state, this.#reactor, this.#limits.records, (message) =>
      this.#fault(message),
    )
    const { memory } = this.#handover
    restoreContainers(this.#state, this.#registry, this.#admission, options.onEvent)
    this.#state.close()
    this.#records = new Records(memory, this.#registry, options)
    this.#passThrough = new PassThrough(this.#reactor, new Slots(memory), (listener) => this.#gone(listener))
    this.#engine = this.#startEngines(memory)
    this.#timer = setInterval(() => this.#look(), LOOK_MS)
  }

  /** The process of the engine, if there is one now. */
  get enginePid(): number | undefined {
    return this.#engine.pid
  }

  /** For one line. */
  get status(): string {
    const listeners = [...this.#registry.listeners].length
    return `${this.#registry.size} containers, ${listeners} listeners`
  }

  /** Hands out the records that are there now. @param isOver the engine that wrote them has ended */
  drain(isOver = false): void {
    this.#records.drain(isOver)
  }

  /**
   * Ends the engine, and stands still: calls wait.
   *
   * @returns once all that the next program in this process needs is stored; it must become that at once, or `goOn`
   */
  async quiesce(): Promise<void> {
    await this.#quiet(QUIET_MS)
    await this.#engine.hold()
    this.#handover.store('program')
    await this.#quiet(QUIET_AGAIN_MS)
    this.drain(true)
    if (this.#isLeaving) throw new Error('it is told to end')
  }

  /** Ends the engine, and stores for the next process of the service what it needs: calls wait for that. */
  async detach(): Promise<void> {
    this.#isLeaving = true
    await Promise.race([this.#engine.hold(), sleep(LEAVE_MS)])
    this.#handover.store('process')
    await waitFor(() => this.#options.manager?.isIdle !== false, QUIET_AGAIN_MS)
  }

  resume(): void {
    if (this.#isLeaving) return
    this.#handover.takeBack()
    this.#engine.resume()
  }

  /** Lets everything go: the calls that wait, and all later ones, fail with ENOSYS by the kernel. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    this.#passThrough.stop()
    this.#engine.close()
    this.drain()
    for (const door of this.#sockets) door.close()
    this.#earlyExecs.close()
    this.#registry.close()
    this.#handover.close()
    this.#reactor.close()
  }

  #startEngines(memory: ArrayBuffer): EngineSupervisor {
    const { calls, callsPerContainer } = this.#limits
    return new EngineSupervisor({
      reactor: this.#reactor,
      memories: this.#handover.memories,
      beat: new Heartbeat(memory),
      engine: { threads: THREADS, calls, callsPerContainer },
      pause: this.#options.restartPause,
      handOn: (tell) => this.#handover.handOn(tell),
      inventory: (tell) => this.#inventory(tell),
      hear: (...said) => this.#hear(...said),
      ended: (how, pause) => this.#engineEnded(how, pause),
      starting: () => this.#stopPassing(),
      follow: this.#options.successor && (() => this.#options.successor?.follow()),
    })
  }

  #look(): void {
    this.drain()
    this.#engine.look()
    this.#options.manager?.alive()
    this.#options.successor?.look()
  }

  /** Waits, but not for ever, for those who are in the middle of something that is stored nowhere, and until all is stored. */
  async #quiet(patience: number): Promise<void> {
    await waitFor(() => this.#earlyExecs.isEmpty && this.#sockets.every((door) => door.isQuiet), patience)
    await waitFor(() => this.#options.manager?.isIdle !== false, QUIET_MS)
  }

  #openSockets(): readonly Acceptor[] {
    try {
      const { connections: limit } = this.#limits
      const refuse = (message: string): void => this.#refuse(message)
      return openSockets(this.#reactor, { ...this.#options, limit }, this.#earlyExecs.register, refuse, this.#state)
    } catch (error) {
      this.#reactor.close()
      throw error
    }
  }

  /** Serves what was handed over; if that cannot be, it is closed, and its calls fail with ENOSYS. */
  #register(...[handover, fd, type, runtime]: Parameters<Register>): void {
    const isListener = type === 'listener' && isSeccompListener(fd)
    let listener: number | undefined
    try {
      if (type === 'listener' && !isListener)
        throw new Error(`Cannot serve container ${handover.id}: the descriptor is no seccomp listener`)
      const entry = this.#admission.entry(handover, runtime)
      requireRoom(entry, this.#limits.listenersPerContainer)
      listener = this.#registry.hold(entry, fd, type)
      if (type === 'listener') this.#keep(entry, listener, fd)
      this.#engine.tell({ type, listener, container: entry.container.index }, [fd])
      if (this.#passes) this.#passThrough.serve(listener, { entry, fd, type })
    } catch (error) {
      const over = isListener && isOver(fd)
      if (listener !== undefined) this.#gone(listener)
      fd[Symbol.dispose]()
      // A command may have ended before we could look at it: nobody waits for us then.
      if (!over) throw error
    }
  }

  #keep({ container: { index, serial }, handover, init, listeners }: ContainerEntry, number: number, fd: Fd): void {
    if (listeners === 1) this.#state.keepContainer({ index, serial, handover, init })
    this.#state.keepListener({ number, container: index, fd })
  }

  #inventory(tell: EngineProcess['tell']): void {
    for (const entry of this.#registry.entries) announce(entry, tell)
    for (const [listener, { entry, fd, type }] of this.#registry.listeners)
      tell({ type, listener, container: entry.container.index }, [fd])
  }

  #hear(message: ToKeeper, fds: readonly Fd[]): void {
    if (this.#handover.hear(message, fds)) return
    if (message.type === 'ready') this.#ready()
    else if (message.type === 'halfFull') this.drain()
    else if (message.type === 'gone') this.#gone(message.listener)
    else if (message.type === 'program') this.#program(message)
    else if (message.type === 'waited') this.#waited(message.container)
    else this.#options.onEvent(message)
  }

  #gone(listener: number): void {
    this.drain()
    const held = this.#registry.held(listener)
    if (held?.type === 'listener') this.#state.dropListener(listener, held.entry.container.index)
    const ended = this.#registry.release(listener)
    if (!ended) return
    this.#state.dropContainer(ended.container.index, ended.init)
    this.#engine.tell({ type: 'forget', container: ended.container.index })
    this.#options.onEvent({ type: 'ended', id: ended.container.id })
  }

  #waited(container: number): void {
    const id = this.#registry.at(container)?.container.id
    if (id === undefined) return
    this.#options.onEvent({ type: 'limit', id, limit: 'callsPerContainer', value: this.#limits.callsPerContainer })
  }

  #program({ container, ...end }: Extract<ToKeeper, { type: 'program' }>): void {
    this.#options.onEvent({ ...end, id: this.#registry.at(container)?.container.id ?? '' })
  }

  #fault(message: string): void {
    this.#options.onEvent({ type: 'fault', message })
  }

  #refuse(message: string): void {
    this.#options.onEvent({ type: 'refused', message })
  }

  #ready(): void {
    if (!this.#starting) this.#options.onEvent({ type: 'engineStarted', pid: this.enginePid })
    this.#starting?.ready()
    this.#starting = undefined
  }

  /** The calls that wait go on waiting, for the next one; if that is not soon, they are left to the kernel. */
  #engineEnded(how: string, pause: number): void {
    this.drain(true)
    if (this.#starting && this.#registry.size === 0) {
      this.close()
      this.#starting.failed(new Error(`Cannot start: the engine ${how}`))
      return
    }
    // Containers of a keeper before this one wait: it goes on as if its engine had ended later.
    this.#starting?.ready()
    this.#starting = undefined
    this.#options.onEvent({ type: 'engineEnded', how, pause })
    if (pause === 0 || this.#closed) return
    this.#passes = true
    this.#passThrough.start(this.#registry.listeners)
  }

  #stopPassing(): void {
    this.#passes = false
    this.#passThrough.stop()
  }
}
