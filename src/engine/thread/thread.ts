import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { EPOLLHUP, EPOLLIN } from '../../abi/poll.ts'
import type { Container } from '../../caller/identity/container.ts'
import { LostThread } from '../../caller/identity/thread-identity.ts'
import { SLOT, STATE } from '../../calls/slot.ts'
import { now } from '../../kernel/clock.ts'
import { Epoll, EpollEvent } from '../../kernel/epoll.ts'
import { Fd } from '../../kernel/fd.ts'
import { notifRecv } from '../../kernel/seccomp.ts'
import { map } from '../../kernel/shared-memory.ts'
import { CountWriter } from '../../memories/count-writer.ts'
import { RecordWriter } from '../../memories/records.ts'
import { requireBuild } from '../../processes/build-id.ts'
import { sleepForever } from '../../shared/sleep.ts'
import { hasBegun, INHERITED_TOKEN, InheritedCalls, resumeInherited } from '../journal/inherited-calls.ts'
import { Slots } from '../journal/slots.ts'
import { DedicatedReceiver } from '../leader/dedicated-receiver.ts'
import type { Leadership } from '../leader/leadership.ts'
import { LxcProxyReceiver } from '../lxc/lxc-proxy.ts'
import { Replays } from '../replay/replay.ts'
import type { Call } from '../serve/call.ts'
import { Server } from '../serve/server.ts'
import { CallCost } from './call-cost.ts'
import { KnownContainers } from './known-containers.ts'
import type { Lane } from './lane.ts'
import { SharedState } from './shared-state.ts'
import type { FromThread, ThreadData } from './thread-messages.ts'
import { ThreadServices } from './thread-services.ts'

/** After this number of turns a thread yields to its event loop, which frees memory that would leak otherwise. */
const TURNS = 1000
/** So many times a thread yields until it hands the lead over for it; it keeps the lead at the other yields. */
const YIELDS_PER_HAND_OVER = 4
/** The least time between two requests of a thread for more threads. */
const GROW_MS = 10

/**
 * Receives calls while it leads or is dedicated to a listener, serves them, and parks otherwise: one serving thread.
 */
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
  readonly #cost = new CallCost()
  #runs = 0
  /** `now()` when this thread last asked for another thread. */
  #grown = Number.NEGATIVE_INFINITY

  constructor(data: ThreadData, port: MessagePort) {
    this.#data = data
    this.#port = port
    this.#known = new KnownContainers(port)
    this.#state = new SharedState(data.state)
    this.#leadership = this.#state.leadershipOf(data, (thread) => this.#dedicated.release(thread))
    this.#epoll = new Epoll(new Fd(data.epoll))
    this.#inherited = new InheritedCalls(this.#state.inherited, this.#epoll, new Fd(data.inheritedReady))
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
    const records = new RecordWriter(map(new Fd(data.records)), () => this.#post({ type: 'halfFull' }))
    const counts = new CountWriter(map(new Fd(data.counts)))
    const replays = new Replays(this.#state.replyCache, this.#slots.view, () => this.#mayBlock())
    const onFault = (message: string): void => this.#post({ type: 'fault', message })
    this.#lane = this.#state.lanes.own(context.identity, onFault)
    this.#server = new Server(context, this.#slots, { records, counts, mode: data.arguments }, replays, onFault)
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
    // The thread usually keeps the lead while it yields, for another thread would wake on another processor than the
    // callers'. It hands the lead over sometimes, for this thread itself may be on such a processor.
    if (!this.#isDedicated && ++this.#runs % YIELDS_PER_HAND_OVER === 0) this.#handOver()
    else if (this.#leadership.isOurs) this.#leadership.markBusy()
    setImmediate(() => this.run())
  }

  #turn(): void {
    if (this.#dedicated.listener !== undefined) {
      this.#receiveDedicated(this.#dedicated.listener)
      return
    }
    while (!this.#leadership.isOurs) this.#follow()
    this.#leadership.markWaiting()
    if (!this.#event.wait(this.#data.epoll, -1)) return
    this.#leadership.markReceiving()
    this.#known.hear(this.#leadership.epoch)
    const { token: index, generation, events } = this.#event
    if (index === INHERITED_TOKEN) this.#serveInherited()
    if (this.#state.listeners.generation[index] !== generation) return
    if (this.#state.proxies.has(index)) this.#receiveForwarded(index, generation)
    else if ((events & EPOLLIN) !== 0) this.#receive(index)
    // EPOLLERR alone says that a stop of ours interrupted the look (kernel/seccomp.c seccomp_notify_poll()).
    else if ((events & EPOLLHUP) !== 0) this.#hangUp(index, generation)
  }

  get #isDedicated(): boolean {
    return this.#dedicated.listener !== undefined
  }

  #follow(): void {
    if (!this.#leadership.await()) {
      this.#leadership.park()
      this.#known.hear(this.#leadership.epoch)
    }
    // A leader without a deputy that blocks would block the calls of all containers.
    if (this.#leadership.isOurs && !this.#leadership.callDeputy()) this.#askForThread()
  }

  #receive(index: number): void {
    const state = this.#state
    const container = this.#known.of(state.listeners.container[index]!)
    if (Atomics.load(state.containerCalls, container.index) >= this.#capOf(container)) {
      this.#mute(index, container)
      return
    }
    const listenerFd = state.listeners.fd[index]!
    const slot = this.#take(index, container)
    if (slot < 0) return
    if (!notifRecv(listenerFd, this.#slots.notification(slot))) {
      this.#slots.setState(slot, STATE.free)
      return
    }
    this.#slots.receive(slot)
    const call: Call = { slot, listenerFd, container, start: now() }
    if (this.#server.screen(call)) this.#state.countAnswer()
    else if (!this.#serve(call, index) || !this.#trusts(container)) return
    if (!this.#leadership.isOurs || !this.#dedicated.note(index)) return
    if (this.#leadership.parked === 0) this.#askForThread()
    else if (this.#dedicated.begin(index)) this.#handOver()
  }

  /**
   * Waits for the next call of the listener to which this thread is dedicated. A call that must be served may exceed
   * its container's cap by one, for it was received already.
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
    const call: Call = { slot: this.#dedicated.slot, listenerFd: fd[index]!, container, start: now() }
    if (this.#server.screen(call)) return
    this.#state.listeners.hold(index, 1)
    if (this.#server.isQuick && this.#trusts(container)) this.#dedicated.serve()
    else this.#dedicated.end()
    try {
      this.#serve(call, index)
    } finally {
      this.#state.listeners.hold(index, -1)
    }
    if (this.#isDedicated) this.#stayDedicated()
  }

  /** After a call that this thread has served as a dedicated receiver: it does not take part in the leadership. */
  #stayDedicated(): void {
    this.#leadership.handOver()
    if (!this.#dedicated.served()) this.#leadership.rejoin()
  }

  /**
   * Receives a call that a monitor of LXC forwards. A call over the cap is continued and the connection is never muted,
   * since the monitor waits for a reply.
   */
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
    const call: Call = { slot, listenerFd: forwarded.listenerFd, container, start: now(), forwarded }
    if (Atomics.load(containerCalls, container.index) >= this.#capOf(container))
      this.#server.continue(call, 'containerBusy')
    else if (!this.#server.screen(call)) this.#serve(call, index)
    this.#state.countAnswer()
  }

  /**
   * Serves a call. From here on the thread may block in the container; if it does, the deputy takes the lead.
   *
   * @returns whether the call was answered at once
   */
  #serve(call: Call, index: number): boolean {
    const { index: container } = call.container
    // At the limit of calls the call is continued, so that a thread is left to lead.
    if (this.#state.calls >= this.#data.calls && !hasBegun(call)) {
      this.#server.continue(call, 'containerBusy')
      return false
    }
    this.#state.countCall(index, container, 1)
    let atOnce: boolean
    try {
      atOnce = this.#answer(call)
      if (!atOnce) this.#dedicated.note(undefined)
      this.#lane.fast()
    } finally {
      this.#state.countCall(index, container, -1)
      // What a dedicated receiver answers does not show that somebody leads.
      if (!this.#isDedicated) this.#state.countAnswer()
      this.#unmute(container)
      this.#leadership.rejoin()
    }
    const spent = this.#cost.end(call.start, this.#leadership.isOurs)
    if (spent > 0) this.#state.charge(container, spent)
    return atOnce
  }

  /**
   * Serves a call. A leader copies what the call asks first, if its handler says that this mostly decides, and lets
   * others receive calls meanwhile only if it does not.
   *
   * @returns whether the call was answered at once
   */
  #answer(call: Call): boolean {
    const { readsFirst, isBrief } = this.#server
    const keepsLead = readsFirst && this.#leadership.isOurs && this.#trusts(call.container)
    if (keepsLead) this.#leadership.serve(call.container.index, call.start)
    else this.#handOverOrKeep(call)
    this.#cost.begin(call.start)
    if (this.#server.read(call)) return readsFirst
    if (this.#isDedicated && !isBrief) this.#dedicated.end()
    if (keepsLead) {
      // The deputy may have taken the lead meanwhile.
      this.#leadership.rejoin()
      this.#handOverOrKeep(call)
    }
    this.#server.serve(call)
    return isBrief
  }

  /** Returns whether calls of a container may be served by a thread that receives calls: they do not take long. */
  #trusts({ index }: Container): boolean {
    return !this.#state.slow.isDear(index) && !this.#state.distrusts(index)
  }

  /** Hands over, shares or keeps the lead while this thread serves a call, by what is known of the container. */
  #handOverOrKeep({ container: { index }, start }: Call): void {
    if (this.#state.slow.isDear(index)) this.#mayBlock()
    else if (!this.#leadership.isOurs) this.#leadership.helpServe(index, start)
    else if (this.#state.distrusts(index)) this.#handOver()
    else if (!this.#server.isBrief && this.#epoll.isReady) this.#receiveTogether(index, start)
    else this.#leadership.serve(index, start)
  }

  #receiveTogether(container: number, start: number): void {
    if (!this.#leadership.receiveTogether(container, start)) this.#askForThread()
  }

  /**
   * Returns how many calls of a container may be in flight: 1 for a dear container, and for all containers while half
   * of the host's calls are taken, so that a container whose calls hang does not take the other half.
   */
  #capOf({ index }: Container): number {
    const { callsPerContainer, calls } = this.#data
    return this.#state.calls >= calls / 2 || this.#state.inTurn.isDear(index) ? 1 : callsPerContainer
  }

  #take(listener: number, container: Container): number {
    return this.#slots.take({ listener, container: container.index, thread: this.#data.number })
  }

  /** Serves a call which the previous engine left. */
  #serveInherited(): void {
    const slot = this.#inherited.take()
    if (slot === undefined) return
    const inherited = resumeInherited(slot, this.#slots, this.#state.listeners, this.#state.proxies)
    if (!inherited) return
    const { index, ...found } = inherited
    const container = this.#known.of(this.#slots.view.getUint32(slot + SLOT.container, true))
    const call: Call = { slot, ...found, container, start: now() }
    try {
      if (!this.#server.settle(call)) this.#serve(call, index)
    } finally {
      this.#inherited.finish()
      this.#state.countAnswer()
    }
  }

  /** Mutes a listener over its container's cap: it stays in the epoll set without events, so EPOLLHUP still comes. */
  #mute(index: number, container: Container): void {
    const state = this.#state
    this.#epoll.modify(state.listeners.fd[index]!, 0, [index, state.listeners.generation[index]!])
    state.countMuted(index, 1)
    Atomics.store(state.listeners.muted, index, 1)
    // A call may have ended just before its thread could see that this listener is muted.
    if (Atomics.load(state.containerCalls, container.index) < this.#capOf(container)) this.#unmute(container.index)
  }

  /**
   * Asks the main thread to unmute a container's listeners. It alone closes listeners, so it cannot confuse a listener
   * that ends meanwhile with another of the same number.
   */
  #unmute(container: number): void {
    if (this.#state.muted(container) > 0) this.#post({ type: 'unmute', container })
  }

  #hangUp(index: number, generation: number): void {
    this.#epoll.remove(this.#state.listeners.fd[index]!)
    this.#state.clearMuted(index)
    this.#post({ type: 'gone', index, generation })
  }

  /** Hands the lead over and enters the slow lane: this thread's call may take long, and has no priority any more. */
  #mayBlock(): void {
    if (this.#isDedicated) this.#dedicated.end()
    this.#handOver()
    this.#lane.slow()
  }

  /** Lets another thread lead and work in place of this thread, which may block for long from now on. */
  #handOver(): void {
    if (this.#leadership.parked === 0) this.#askForThread()
    this.#leadership.handOver()
  }

  /** Asks for another thread, at most every `GROW_MS`: a thread takes longer to start, or the limit may be reached. */
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
   * Parks this thread for ever, since it may still have a caller's ids, root or namespaces. A thread that is `lost` has
   * answered its call and is replaced; one that `failed` ends the engine, so that the next engine serves its call.
   */
  #abandon(error: Error): never {
    if (this.#isDedicated) this.#dedicated.end()
    this.#handOver()
    this.#post({ type: error instanceof LostThread ? 'lost' : 'failed', message: error.message })
    return sleepForever()
  }
}

Error.stackTraceLimit = 0
const data = workerData as ThreadData
requireBuild(data.build)
new EngineThread(data, parentPort!).run()
