import { Worker } from 'node:worker_threads'
import type { Dev, Tid } from '../abi/brand.ts'
import type { Container, ContainerHandles } from '../caller/container.ts'
import { isHeldIn } from '../caller/held.ts'
import type { IsHeld } from '../calls/context.ts'
import { EPOLLIN, type Epoll, EpollEvent } from '../kernel/epoll.ts'
import { closeRaw, Fd } from '../kernel/fd.ts'
import { map } from '../kernel/shared-memory.ts'
import { Alarm, timerfd } from '../kernel/timer.ts'
import { CONTEXT_BYTES, Contexts } from './contexts.ts'
import { tryDevice, UNKNOWN } from './device-rules.ts'
import { Execs } from './execs.ts'
import { Beat, JOURNAL_SIZE, Slots } from './journal.ts'
import { Lead } from './lead.ts'
import { passLost } from './lost-calls.ts'
import type { ProgramEnd, ToEngine } from './messages.ts'
import { Mounters } from './mounters.ts'
import { Orphans } from './orphans.ts'
import { PoolState } from './pool-state.ts'
import { Priority } from './priority.ts'
import { ProxyDeadlines } from './proxy-deadlines.ts'
import { encodeRules } from './rules-cache.ts'
import type { FromThread, ThreadData, ToThread } from './thread-messages.ts'
import { Walkers } from './walkers.ts'

type Announced = Extract<ToEngine, { type: 'container' }>

export interface PoolOptions extends Omit<ThreadData, 'state' | 'contexts' | 'number' | 'epoll' | 'alarm' | 'orphans'> {
  readonly epoll: Epoll
  /** Threads at the start, and at most: more are made when none is left to take the lead. */
  readonly threads: number
  readonly threadLimit: number
  readonly onReady: (threads: number) => void
  /** All its tasks have ended, its descriptor is closed. */
  readonly onGone: (listener: number) => void
  readonly onHalfFull: () => void
  readonly onFault: (message: string) => void
  /** Calls of a container have waited for others of it. */
  readonly onWaited: (container: number) => void
  /** A program in a container failed. */
  readonly onProgram: (container: number, end: ProgramEnd) => void
}

/** How often a listener whose tasks have ended is looked at again while a call of it is still in flight. */
const LINGER_MS = 50
/** How often contexts of fsopen(2) are looked through. */
const EXPIRE_MS = 5000
/** The ending of this file is the ending of the other: it runs from the sources' build only. */
const THREAD = new URL(`./thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)

/** The threads of the engine and what they serve, kept by the main thread, which serves nothing itself. */
export class Pool {
  readonly #options: PoolOptions
  readonly #state = new PoolState()
  readonly #alarm = timerfd()
  readonly #lead = new Lead(this.#state.lead, new Alarm(this.#alarm.raw, 1), 0 as Tid, () => false)
  readonly #workers = new Set<Worker>()
  readonly #walkers: Walkers
  readonly #priority: Priority
  readonly #deadlines: ProxyDeadlines
  readonly #mounters: Mounters
  readonly #execs: Execs
  readonly #contextMemory = new SharedArrayBuffer(CONTEXT_BYTES)
  readonly #contexts = new Contexts(this.#contextMemory)
  readonly #isHeld: IsHeld
  #expiring: NodeJS.Timeout | undefined
  readonly #containers = new Map<number, Container>()
  readonly #handles = new Map<number, readonly Fd[]>()
  readonly #listeners = new Set<number>()
  readonly #slots: Slots
  readonly #beat: Beat
  readonly #orphans: Orphans
  /** Readable for ever. */
  readonly #ready = timerfd()
  #inherits = false
  #answered = 0
  readonly #event = new EpollEvent()
  #running = 0
  /** Threads that were started and are not ready yet: one is enough at a time. */
  readonly #starting = new Set<Worker>()
  #lost = 0
  #number = 0

  constructor(options: PoolOptions) {
    this.#options = options
    this.#walkers = new Walkers(this.#state, options.onFault)
    this.#priority = new Priority(options.onFault)
    this.#deadlines = new ProxyDeadlines(this.#state.proxies, options.onFault)
    this.#isHeld = isHeldIn(new Fd(options.proc))
    this.#mounters = new Mounters(options.onFault)
    const journal = map(new Fd(options.journal), JOURNAL_SIZE)
    this.#slots = new Slots(journal)
    this.#beat = new Beat(journal)
    new Alarm(this.#ready.raw, 1).ring()
    this.#orphans = new Orphans(this.#state.orphans, options.epoll, this.#ready)
    this.#execs = new Execs(options.onProgram)
    for (let count = 0; count < options.threads; count++) this.#start()
  }

  /** @param fds owned here; they become `handles` of the container */
  announce({ container: bare, handles: names, walkable }: Announced, fds: readonly Fd[]): void {
    const { index } = bare
    const raws = fds.map(({ raw }, position) => [names[position], raw])
    const handles = fds.length > 0 ? (Object.fromEntries(raws) as ContainerHandles) : undefined
    const container = { ...bare, ...(handles && { handles }) }
    this.#containers.set(index, container)
    this.#handles.set(index, fds)
    this.#state.resetContainer(index)
    const userns = fds[names.indexOf('userns')]
    if (userns && walkable) this.#walkers.admit(index, userns)
    this.#priority.admit(index, container.barred ? undefined : container.policy.schedSetscheduler?.maxPriority)
    this.#post({ container })
  }

  forget(container: number): void {
    this.#containers.delete(container)
    this.#walkers.forget(container)
    this.#priority.forget(container)
    this.#contexts.forget(container)
    this.#state.programs.forget(container)
    for (const fd of this.#handles.get(container) ?? []) fd[Symbol.dispose]()
    this.#handles.delete(container)
    this.#post({ forget: container })
  }

  /**
   * Serves `fd` from now on and owns it: a listener, or the connection of a monitor of LXC.
   *
   * @param index the keeper's number of it
   */
  listen(index: number, container: number, fd: Fd, isMonitor = false): void {
    const state = this.#state
    this.#listeners.add(index)
    state.listenerFd[index] = fd.raw
    state.listenerContainer[index] = container
    const generation = Atomics.add(state.listenerGeneration, index, 1) + 1
    if (isMonitor) this.#deadlines.watch(index, fd.raw)
    else if (this.#inherits) this.#passLost(index, fd.raw)
    this.#options.epoll.add(fd, EPOLLIN, [index, generation])
    fd.release()
  }

  /** What follows is what an engine before this one had. */
  inherit(failed: boolean): void {
    this.#inherits = true
    this.#orphans.find(this.#slots, failed)
  }

  /** All of it is here: its calls in flight may be served. */
  settle(): void {
    this.#inherits = false
    this.#orphans.offer()
  }

  /** Says that this engine serves: a call waits only as long as others are answered. */
  beat(): void {
    const { answered } = this.#beat
    const waits = this.#event.wait(this.#options.epoll.raw, 0)
    if (!waits || answered !== this.#answered) this.#beat.give()
    this.#answered = answered
    for (const container of this.#containers.keys())
      if (this.#state.hasWaited(container)) this.#options.onWaited(container)
  }

  #passLost(index: number, listener: number): void {
    const count = passLost(this.#slots, index, listener)
    if (count > 0) this.#options.onFault(`Cannot serve ${count} calls: they were lost, and are left to the kernel`)
  }

  #start(): void {
    const { onReady: _r, onGone: _g, onHalfFull: _h, onFault: _f, onProgram: _p, onWaited: _w, ...rest } = this.#options
    const { threads: _t, epoll, ...shared } = rest
    const workerData: ThreadData = {
      ...shared,
      epoll: epoll.raw,
      alarm: this.#alarm.raw,
      orphans: this.#ready.raw,
      state: this.#state.buffer,
      contexts: this.#contextMemory,
      number: ++this.#number,
    }
    const worker = new Worker(THREAD, { workerData, resourceLimits: { maxYoungGenerationSizeMb: 4 } })
    this.#workers.add(worker)
    this.#starting.add(worker)
    this.#priority.renew()
    for (const container of this.#containers.values()) worker.postMessage({ container } satisfies ToThread)
    worker.on('message', (message: FromThread) => this.#hear(message, worker))
    worker.on('error', (error) => this.#options.onFault(`An engine thread failed: ${error.message}`))
    worker.on('exit', () => this.#lose(worker))
  }

  #hear(message: FromThread, worker: Worker): void {
    switch (message.type) {
      case 'gone':
        this.#close(message.index, message.generation)
        break
      case 'halfFull':
        this.#options.onHalfFull()
        break
      case 'fault':
        this.#options.onFault(message.message)
        break
      case 'lost':
        this.#options.onFault(message.message)
        this.#lose(worker)
        break
      case 'ready':
        this.#starting.delete(worker)
        if (++this.#running === this.#options.threads) this.#options.onReady(this.#running)
        break
      case 'device':
        void this.#tryDevice(message.tid, message.dev, new Int32Array(message.answer))
        break
      case 'lend':
        this.#lend(message.container, new Int32Array(message.answer))
        break
      case 'giveBack':
        this.#mounters.giveBack(message.socket, message.lost)
        break
      case 'exec':
        this.#execs.start(this.#containers.get(message.container), message)
        break
      case 'execOver':
        this.#execs.over(message.job, message.failed)
        break
      case 'context':
        this.#expiring ??= setInterval(() => this.#expireContexts(), EXPIRE_MS)
        break
      case 'unmute':
        this.#unmute(message.container)
        break
      case 'walker':
        this.#walkers.start(message.container)
        break
      case 'walkerStuck':
        this.#walkers.abandon(message.container, message.walker)
        break
      case 'grow':
        if (this.#lead.parked === 0 && this.#starting.size === 0 && this.#workers.size < this.#options.threadLimit)
          this.#start()
    }
  }

  /** Watches the listeners again that waited for the cap of their container. */
  #unmute(container: number): void {
    const { listenerContainer, listenerFd, listenerGeneration } = this.#state
    for (const index of this.#listeners) {
      if (listenerContainer[index] !== container || !this.#state.clearMuted(index)) continue
      this.#options.epoll.modify(listenerFd[index]!, EPOLLIN, [index, listenerGeneration[index]!])
    }
  }

  async #tryDevice(tid: Tid, dev: Dev, answer: Int32Array): Promise<void> {
    const rules = await tryDevice(tid, dev).catch(() => UNKNOWN)
    settle(answer, encodeRules(rules))
  }

  #lend(container: number, answer: Int32Array): void {
    this.#mounters.lend(container, (socket) => settle(answer, socket ?? -1))
  }

  /** Only while there is one: an idle engine has no timer. */
  #expireContexts(): void {
    this.#contexts.tidy(undefined, this.#isHeld)
    if (this.#contexts.size > 0) return
    clearInterval(this.#expiring)
    this.#expiring = undefined
  }

  /** A thread that is gone or stands somewhere else is replaced; an engine that loses them all the time gives up. */
  #lose(worker: Worker): void {
    this.#starting.delete(worker)
    if (!this.#workers.delete(worker)) return
    if (++this.#lost > this.#options.threadLimit) throw new Error(`Cannot go on: ${this.#lost} threads were lost`)
    this.#start()
  }

  #close(index: number, generation: number): void {
    const state = this.#state
    if (state.listenerGeneration[index] !== generation || !this.#listeners.has(index)) return
    if (Atomics.load(state.listenerCalls, index) > 0 || this.#orphans.some) {
      setTimeout(() => this.#close(index, generation), LINGER_MS)
      return
    }
    this.#listeners.delete(index)
    state.clearMuted(index)
    this.#deadlines.forget(index)
    Atomics.add(state.listenerGeneration, index, 1)
    closeRaw(state.listenerFd[index]!)
    state.listenerFd[index] = 0
    this.#options.onGone(index)
  }

  #post(message: ToThread): void {
    for (const worker of this.#workers) worker.postMessage(message)
    this.#lead.announce()
  }
}

/** Answers a thread that waits for a word other than 0. */
function settle(answer: Int32Array, word: number): void {
  Atomics.store(answer, 0, word)
  Atomics.notify(answer, 0)
}
