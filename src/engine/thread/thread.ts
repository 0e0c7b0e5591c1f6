import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { Container } from '../../caller/identity/container.ts'
import { LostThread } from '../../caller/identity/thread-identity.ts'
import { SLOT, STATE } from '../../calls/slot.ts'
import { requireBuild } from '../../kernel/build.ts'
import { accountedTime, now, threadTime } from '../../kernel/clock.ts'
import { EPOLLERR, EPOLLHUP, EPOLLIN, Epoll, EpollEvent } from '../../kernel/epoll.ts'
import { Fd } from '../../kernel/fd.ts'
import { notifRecv } from '../../kernel/seccomp.ts'
import { map } from '../../kernel/shared-memory.ts'
import { hasBegun, INHERITED_TOKEN, InheritedCalls, resumeInherited } from '../journal/inherited-calls.ts'
import { RecordWriter } from '../journal/records.ts'
import { Slots } from '../journal/slots.ts'
import { DedicatedReceiver } from '../leader/dedicated-receiver.ts'
import type { Leadership } from '../leader/leadership.ts'
import { LxcProxyReceiver } from '../lxc/lxc-proxy.ts'
import { Replays } from '../replay/replay.ts'
import { type Call, Server } from '../serve/server.ts'
import { FairShare } from './fair-share.ts'
import { KnownContainers } from './known-containers.ts'
import type { Lane } from './lane.ts'
import { SharedState } from './shared-state.ts'
import type { FromThread, ThreadData } from './thread-messages.ts'
import { ThreadServices } from './thread-services.ts'

/** A thread that never yields leaks what the event loop would free: so it yields once in so many turns. */
const TURNS = 1000
/** So often it keeps the lead then. */
const LEADS = 4
const GROW_MS = 10

class EngineThread {
  readonly #data: ThreadData
  readonly #port: MessagePort
  readonly #state: SharedState
  readonly #slots: Slots
  readonly #server: Server
  readonly #lxc: LxcProxyReceiver
  readonly #event = new EpollEvent()
  readonly #epoll: Epoll
  readonly #leadership: Leadership
  readonly #lane: Lane
  readonly #inherited: InheritedCalls
  readonly #dedicated: DedicatedReceiver
  readonly #known: KnownContainers
  #runs = 0
  /** When it has last asked for another thread. */
  #grown = Number.NEGATIVE_INFINITY

  constructor(data: ThreadData, port: MessagePort) {
    this.#data = data
    this.#port = port
    this.#known = new KnownContainers(port)
    this.#state = new SharedState(data.state)
    this.#leadership = this.#state.leadershipOf(data)
    this.#epoll = new Epoll(new Fd(data.epoll))
    this.#inherited = new InheritedCalls(this.#state.inherited, this.#epoll, new Fd(data.orphans))
    const journal = map(new Fd(data.journal))
    this.#slots = new Slots(journal)
    this.#dedicated = new DedicatedReceiver(this.#state.dedicated, {
      listeners: this.#state.listeners,
      slots: this.#slots,
      epoll: this.#epoll,
    })
    const { context } = new ThreadServices(data, this.#state, {
      post: (message) => this.#post(message),
      mayBlock: () => this.#mayBlock(),
      unmute: (container) => this.#unmute(container),
    })
    const records = new RecordWriter(journal, () => this.#post({ type: 'halfFull' }))
    const adoptions = new Replays(this.#state.replyCache, this.#slots.view, () => this.#mayBlock())
    const onFault = (message: string): void => this.#post({ type: 'fault', message })
    this.#lane = this.#state.lanes.own(context.identity, onFault)
    this.#server = new Server(context, this.#slots, records, adoptions, onFault)
    this.#lxc = new LxcProxyReceiver(this.#state.proxies, (why) =>
      this.#post({ type: 'fault', message: `Cannot serve a monitor of LXC: ${why}` }),
    )
    this.#post({ type: 'ready' })
  }

  run(): void {
    if (!this.#isDedicated) this.#leadership.rejoin()
    try {
      for (let turn = 0; turn < TURNS; turn++) this.#turn()
    } catch (error) {
      this.#abandon(error as Error)
    }
    // It keeps the lead, for another thread would wake on another processor than that of the callers; but not for ever, for it
    // may be on another one itself.
    if (!this.#isDedicated && ++this.#runs % LEADS === 0) this.#handOver()
    else if (this.#leadership.isOurs) this.#leadership.stepDown()
    setImmediate(() => this.run())
  }

  #turn(): void {
    if (this.#dedicated.listener !== undefined) {
      this.#receiveDedicated(this.#dedicated.listener)
      return
    }
    while (!this.#leadership.isOurs) this.#follow()
    this.#leadership.wait()
    if (!this.#event.wait(this.#data.epoll, -1)) return
    this.#leadership.receive()
    this.#known.hear(this.#leadership.epoch)
    const { token: index, generation, events } = this.#event
    if (index === INHERITED_TOKEN) this.#serveInherited()
    if (this.#state.listeners.generation[index] !== generation) return
    if (this.#state.proxies.has(index)) this.#receiveForwarded(index, generation)
    else if ((events & EPOLLIN) !== 0) this.#receive(index)
    else if ((events & (EPOLLHUP | EPOLLERR)) !== 0) this.#hangUp(index, generation)
  }

  get #isDedicated(): boolean {
    return this.#dedicated.listener !== undefined
  }

  #follow(): void {
    if (!this.#leadership.await()) {
      this.#leadership.park()
      this.#known.hear(this.#leadership.epoch)
    }
    // Whoever leads without a deputy, and blocks, blocks all.
    if (this.#leadership.isOurs && !this.#leadership.callDeputy()) this.#askForThread()
  }

  #receive(index: number): void {
    const state = this.#state
    const container = this.#known.of(state.listeners.container[index]!)
    if (Atomics.load(state.containerCalls, container.index) >= this.#capOf(container)) {
      this.#mute(index, container)
      return
    }
    const listener = state.listeners.fd[index]!
    const slot = this.#take(index, container)
    if (slot < 0) return
    if (!notifRecv(listener, this.#slots.notification(slot))) {
      this.#slots.setState(slot, STATE.free)
      return
    }
    this.#slots.receive(slot)
    const call: Call = { slot, listener, container, start: now() }
    if (!this.#server.screen(call)) {
      this.#serve(call, index)
      return
    }
    this.#state.countAnswer()
    if (this.#dedicated.note(index) && this.#leadership.parked > 0 && this.#dedicated.begin(index)) this.#handOver()
  }

  /**
   * Waits for the next call of the one listener that this thread attends. One that must be served may be one more than its
   * container may have in flight, for it has been received.
   */
  #receiveDedicated(index: number): void {
    const received = this.#dedicated.receive()
    this.#known.hear(this.#leadership.epoch)
    if (!received) {
      this.#leadership.rejoin()
      return
    }
    const { fd, container: containers } = this.#state.listeners
    const container = this.#known.of(containers[index]!)
    const call: Call = { slot: this.#dedicated.slot, listener: fd[index]!, container, start: now() }
    if (this.#server.screen(call)) return
    this.#state.listeners.hold(index, 1)
    this.#dedicated.end()
    try {
      this.#serve(call, index)
    } finally {
      this.#state.listeners.hold(index, -1)
    }
  }

  /** From a monitor of LXC. It waits for the reply, so its connection is never muted: a call over the cap is passed on. */
  #receiveForwarded(index: number, generation: number): void {
    const { containerCalls, listeners } = this.#state
    const container = this.#known.of(listeners.container[index]!)
    const slot = this.#take(index, container)
    if (slot < 0) return
    const connection = new Fd(listeners.fd[index]!)
    const received = this.#lxc.receive(index, connection, this.#slots.notification(slot))
    if (received === 'over') this.#hangUp(index, generation)
    if (received === 'over' || received === undefined) {
      this.#slots.setState(slot, STATE.free)
      return
    }
    using forwarded = received
    this.#slots.receive(slot)
    const call: Call = { slot, listener: forwarded.listener, container, start: now(), forwarded }
    if (Atomics.load(containerCalls, container.index) >= this.#capOf(container))
      this.#server.continue(call, 'containerBusy')
    else if (!this.#server.screen(call)) this.#serve(call, index)
    this.#state.countAnswer()
  }

  /** From here on the thread may block on what belongs to the container: the deputy leads if it does not come back soon. */
  #serve(call: Call, index: number): void {
    const { index: container } = call.container
    // It is left to the kernel rather than that nobody is left to lead.
    if (this.#state.calls >= this.#data.calls && !hasBegun(call)) {
      this.#server.continue(call, 'containerBusy')
      return
    }
    this.#dedicated.note(undefined)
    this.#state.countCall(index, container, 1)
    this.#handOverOrKeep(call)
    const accounted = accountedTime()
    try {
      this.#server.serve(call)
      this.#lane.fast()
    } finally {
      this.#state.countCall(index, container, -1)
      this.#state.countAnswer()
      this.#unmute(container)
      this.#leadership.rejoin()
    }
    this.#charge(call, accounted)
  }

  /** @param accounted how long the thread had worked when the call began, as far as that was known then */
  #charge({ container: { index }, start }: Call, accounted: number): void {
    const took = now() - start
    if (FairShare.isCheap(took)) return
    // All wait for who leads: it must not lose its processor now. What it serves, it serves alone.
    const time = this.#leadership.isOurs ? accountedTime() : threadTime()
    this.#state.share.charge(index, Math.min(took, time - accounted))
  }

  /** Who leads while this thread serves a call? */
  #handOverOrKeep({ container: { index }, start }: Call): void {
    if (this.#state.share.isDear(index)) this.#mayBlock()
    else if (!this.#leadership.isOurs) this.#leadership.helpServe(index, start)
    else if (this.#state.distrusts(index)) this.#handOver()
    else if (!this.#server.isBrief && this.#epoll.isReady) this.#leadership.receiveTogether(index, start)
    else this.#leadership.serve(index, start)
  }

  /** How many calls of a container may be in flight: when half of all are taken, who hangs gets no second one. */
  #capOf({ index }: Container): number {
    const { callsPerContainer, calls } = this.#data
    return this.#state.calls >= calls / 2 || this.#state.share.isDear(index) ? 1 : callsPerContainer
  }

  #take(listener: number, container: Container): number {
    return this.#slots.take({ listener, container: container.index, thread: this.#data.number })
  }

  /** One of the calls that an engine before this one has left. */
  #serveInherited(): void {
    const slot = this.#inherited.take()
    if (slot === undefined) return
    const orphan = resumeInherited(slot, this.#slots, this.#state.listeners, this.#state.proxies)
    if (!orphan) return
    const { index, ...found } = orphan
    const container = this.#known.of(this.#slots.view.getUint32(slot + SLOT.container, true))
    const call: Call = { slot, ...found, container, start: now() }
    try {
      if (!this.#server.settle(call)) this.#serve(call, index)
    } finally {
      this.#inherited.finish()
      this.#state.countAnswer()
    }
  }

  /** Over its cap a container's listener stays registered without events: only then does EPOLLHUP still come. */
  #mute(index: number, container: Container): void {
    const state = this.#state
    this.#epoll.modify(state.listeners.fd[index]!, 0, [index, state.listeners.generation[index]!])
    state.countMuted(index, 1)
    Atomics.store(state.listeners.muted, index, 1)
    // A call may have ended in between, before it could see the mark.
    if (Atomics.load(state.containerCalls, container.index) < this.#capOf(container)) this.#unmute(container.index)
  }

  /** By the main thread, which alone closes descriptors: a listener that ends meanwhile must not be confused with another. */
  #unmute(container: number): void {
    if (this.#state.muted(container) > 0) this.#post({ type: 'unmute', container })
  }

  #hangUp(index: number, generation: number): void {
    this.#epoll.remove(this.#state.listeners.fd[index]!)
    this.#state.clearMuted(index)
    this.#post({ type: 'gone', index, generation })
  }

  /** What the call of this thread needs may take long: it is done as any other process would do it. */
  #mayBlock(): void {
    this.#handOver()
    this.#lane.slow()
  }

  /** The thread may wait for long from now on: somebody else leads, and works in its place. */
  #handOver(): void {
    if (this.#leadership.parked === 0) this.#askForThread()
    this.#leadership.handOver()
  }

  /** Not with every call: a thread takes a while to start, and there may be as many as there can be. */
  #askForThread(): void {
    const time = now()
    if (time - this.#grown < GROW_MS) return
    this.#grown = time
    this.#post({ type: 'grow' })
  }

  #post(message: FromThread): void {
    this.#port.postMessage(message)
  }

  /**
   * The thread may stand anywhere with anybody's ids: it says so and never runs again. If its call was not answered, this engine
   * ends, so that the next one does it.
   */
  #abandon(error: Error): never {
    if (this.#isDedicated) this.#dedicated.end()
    this.#handOver()
    this.#post({ type: error instanceof LostThread ? 'lost' : 'failed', message: error.message })
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    throw error
  }
}

Error.stackTraceLimit = 0
const data = workerData as ThreadData
requireBuild(data.build)
new EngineThread(data, parentPort!).run()
