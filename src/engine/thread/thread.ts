import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { NOTIF } from '../../abi/seccomp.ts'
import { EPOLLHUP, EPOLLIN } from '../../abi/socket.ts'
import type { Container } from '../../caller/identity/container.ts'
import { LostThread } from '../../caller/identity/thread-identity.ts'
import { now } from '../../kernel/clock.ts'
import { Epoll, EpollEvent } from '../../kernel/epoll.ts'
import { Fd } from '../../kernel/fd.ts'
import { notifRecv } from '../../kernel/seccomp.ts'
import { map } from '../../kernel/shared-memory.ts'
import { Slots, STATE } from '../../link/journal.ts'
import { CountWriter } from '../../memories/count-writer.ts'
import { RecordWriter } from '../../memories/records.ts'
import { requireBuild } from '../../processes/build-id.ts'
import { OneShot, sleepForever } from '../../shared/words.ts'
import { DedicatedReceiver } from '../leader/dedicated-receiver.ts'
import type { Leadership } from '../leader/leadership.ts'
import { type LxcProxyCall, LxcProxyReceiver } from '../lxc/lxc-proxy.ts'
import { Replays } from '../replay/replay.ts'
import { type Call, isQuick, receivedCall } from '../serve/call-end.ts'
import { Server } from '../serve/server.ts'
import { INHERITED_TOKEN, InheritedCalls, resumeInherited } from '../tables/inherited-calls.ts'
import { CallService } from './call-service.ts'
import { KnownContainers } from './known-containers.ts'
import { SharedState } from './shared-state.ts'
import type { FromThread, ThreadData } from './thread-messages.ts'
import { ThreadServices } from './thread-services.ts'

/** After this number of turns a thread yields to its event loop, which frees memory that would leak otherwise. */
const TURNS = 1000
/** The thread hands over the lead at every fourth yield, and keeps it at the others. */
const YIELDS_PER_HAND_OVER = 4

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
  readonly #service: CallService
  readonly #inherited: InheritedCalls
  readonly #dedicated: DedicatedReceiver
  readonly #known: KnownContainers
  #runs = 0
  /** Whether the last call took time, so that another one may wait by now. */
  #hasServed = false
  /** Whether the last event was there before this thread looked for it. */
  #hasWaited = false
  /** The task whose call this thread has received last. */
  #caller = 0

  constructor(data: ThreadData, port: MessagePort) {
    this.#data = data
    this.#port = port
    this.#known = new KnownContainers(port)
    this.#state = new SharedState(data.state)
    this.#leadership = this.#state.leadershipOf(data, {
      onHang: (thread) => this.#dedicated.release(thread),
      mayHang: () => this.#dedicated.serves,
    })
    this.#epoll = new Epoll(new Fd(data.epoll))
    this.#inherited = new InheritedCalls(this.#state.inherited, this.#epoll, new Fd(data.inheritedReady))
    const journal = map(new Fd(data.journal))
    this.#slots = new Slots(journal)
    this.#dedicated = new DedicatedReceiver(this.#state.dedicated, {
      listeners: this.#state.listeners,
      slots: this.#slots,
      epoll: this.#epoll,
    })
    const post = (message: FromThread): void => this.#post(message)
    const { context } = new ThreadServices(data, this.#state, {
      post,
      mayBlock: () => this.#service.mayBlock(),
      unmute: (container) => this.#service.unmute(container),
    })
    const records = new RecordWriter(map(new Fd(data.records)), () => post({ type: 'halfFull' }))
    const counts = new CountWriter(map(new Fd(data.counts)))
    const replays = new Replays(this.#state.replyCache, this.#slots.view, () => this.#service.mayBlock())
    const onFault = (message: string): void => post({ type: 'fault', message })
    this.#server = new Server(context, this.#slots, { records, counts, mode: data.arguments }, replays, onFault)
    this.#service = new CallService({
      ...{ state: this.#state, server: this.#server, leadership: this.#leadership, dedicated: this.#dedicated },
      ...{ lane: this.#state.lanes.own(context.identity, onFault), epoll: this.#epoll, calls: data.calls, post },
    })
    this.#lxc = new LxcProxyReceiver(this.#state.proxies, (why) =>
      post({ type: 'fault', message: `Cannot serve a monitor of LXC: ${why}` }),
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
    // The thread usually keeps the lead while it yields, because another thread would wake on a processor that is not
    // the callers'. It hands the lead over sometimes, because this thread itself may be on such a processor.
    if (!this.#isDedicated && ++this.#runs % YIELDS_PER_HAND_OVER === 0) this.#service.handOver()
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
    this.#hasWaited = this.#hasServed && this.#event.wait(this.#data.epoll, 0)
    if (!this.#hasWaited && !this.#event.wait(this.#data.epoll, -1)) return
    this.#leadership.markReceiving()
    this.#hear()
    const { token: index, generation, events } = this.#event
    if (index === INHERITED_TOKEN) this.#serveInherited()
    else if (this.#serveEvent(index, generation, events)) this.#post({ type: 'gone', index, generation })
  }

  /** Reads the messages about containers. */
  #hear(): void {
    const { epoch } = this.#leadership
    if (this.#known.hear(epoch)) this.#leadership.noteHeard(epoch)
  }

  get #isDedicated(): boolean {
    return this.#dedicated.listener !== undefined
  }

  #follow(): void {
    if (!this.#leadership.await()) {
      this.#leadership.park()
      this.#hear()
    }
    // If a leader without a deputy blocked, the calls of all containers would wait.
    if (this.#leadership.isOurs && !this.#leadership.callDeputy()) this.#service.askForThread()
  }

  /**
   * Serves an event. Either the main thread sees that the descriptor is in use, or this thread sees that the listener
   * was dropped, or that its number has another one by now.
   *
   * @returns whether the listener, or the monitor's connection, is over
   */
  #serveEvent(index: number, generation: number, events: number): boolean {
    const { listeners, proxies } = this.#state
    listeners.hold(index, 1)
    try {
      if (Atomics.load(listeners.generation, index) !== generation) return false
      const isOver = proxies.has(index) ? !this.#receiveForwarded(index) : !this.#receiveOrEnd(index, events)
      if (!isOver) return false
      this.#epoll.remove(listeners.fd[index]!)
      this.#state.clearMuted(index)
      return true
    } finally {
      listeners.hold(index, -1)
    }
  }

  /** @returns false if all tasks of the listener have ended */
  #receiveOrEnd(index: number, events: number): boolean {
    // EPOLLERR alone means that our process was stopped, which interrupted the poll (kernel/seccomp.c
    // seccomp_notify_poll()).
    if ((events & EPOLLIN) === 0) return (events & EPOLLHUP) === 0
    if (Atomics.load(this.#state.listeners.dropped, index) === 0) this.#receive(index)
    return true
  }

  #receive(index: number): void {
    const state = this.#state
    const container = this.#known.containerAt(state.listeners.container[index]!)
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
    this.#noteCaller(this.#slots.view.getUint32(slot + NOTIF.tid, true))
    const call = receivedCall({ slot, listenerFd, container, start: now() })
    this.#hasServed = !this.#server.screen(call)
    if (!this.#hasServed) this.#state.countAnswer()
    else if (!this.#service.serve(call, index) || !this.#service.trusts(container)) return
    if (!this.#leadership.isOurs || !this.#dedicated.note(index)) return
    if (this.#leadership.parked === 0) this.#service.askForThread()
    else if (this.#dedicated.begin(index)) this.#service.handOver()
  }

  /** One task that calls again at once is served best by one thread: a second one would only take turns with it. */
  #noteCaller(tid: number): void {
    if (this.#hasWaited && tid !== this.#caller) this.#leadership.noteCrowd()
    this.#caller = tid
  }

  /**
   * Waits for the next call of the listener to which this thread is dedicated. A call that must be served may exceed
   * its container's cap by one, because it was already received.
   */
  #receiveDedicated(index: number): void {
    const received = this.#dedicated.receive()
    this.#hear()
    if (!received) {
      this.#leadership.rejoin()
      return
    }
    const { fd, container: containers } = this.#state.listeners
    const container = this.#known.containerAt(containers[index]!)
    const call = receivedCall({ slot: this.#dedicated.slot, listenerFd: fd[index]!, container, start: now() })
    if (this.#server.screen(call)) return
    this.#state.listeners.hold(index, 1)
    if (isQuick(call) && this.#service.trusts(container)) this.#dedicated.serve()
    else this.#dedicated.end()
    try {
      this.#service.serve(call, index)
    } finally {
      this.#state.listeners.hold(index, -1)
    }
    if (this.#isDedicated) this.#stayDedicated()
  }

  /**
   * Returns to receiving after this thread has served a call as a dedicated receiver. It takes no part in the
   * leadership.
   */
  #stayDedicated(): void {
    this.#leadership.handOver()
    if (!this.#dedicated.served()) this.#leadership.rejoin()
  }

  /**
   * Receives a call that a monitor of LXC forwards. A call over the cap is continued and the connection is never muted,
   * since the monitor waits for a reply.
   *
   * @returns false if the connection is over
   */
  #receiveForwarded(index: number): boolean {
    const { containerCalls, listeners } = this.#state
    const container = this.#known.containerAt(listeners.container[index]!)
    const slot = this.#take(index, container)
    if (slot < 0) return true
    const connection = new Fd(listeners.fd[index]!)
    const received = this.#lxc.receive(index, connection, this.#slots.notification(slot))
    if (received === 'over' || received === undefined) {
      this.#slots.setState(slot, STATE.free)
      return received === undefined
    }
    using forwarded = received
    this.#slots.receive(slot)
    const call = receivedCall({ slot, listenerFd: forwarded.listenerFd, container, start: now(), forwarded })
    if (Atomics.load(containerCalls, container.index) >= this.#capOf(container))
      this.#server.continue(call, 'containerBusy')
    else if (!this.#server.screen(call)) this.#serveForwarded(call, forwarded, index)
    this.#state.countAnswer()
    return true
  }

  /** Serves a call. Once the monitor may forward the next one, it no longer counts towards the cap of its container. */
  #serveForwarded(call: Call, forwarded: LxcProxyCall, index: number): void {
    const { index: container } = call.container
    let isReplied = false
    forwarded.beforeReply = () => {
      isReplied = true
      this.#state.standAside(container, 1)
    }
    try {
      this.#service.serve(call, index)
    } finally {
      if (isReplied) this.#state.standAside(container, -1)
    }
  }

  /**
   * Returns how many calls of a container may be in flight: 1 for an expensive container. While half of the host's
   * calls are taken it is 1 for every container, so that a container whose calls hang does not take the other half.
   */
  #capOf({ index }: Container): number {
    const { callsPerContainer, calls } = this.#data
    return this.#state.calls >= calls / 2 || this.#state.inTurn.isDear(index) ? 1 : callsPerContainer
  }

  #take(listener: number, container: Container): number {
    return this.#slots.take({ listener, container: container.index, thread: this.#data.number })
  }

  /** Serves a call that the previous engine left. */
  #serveInherited(): void {
    const slot = this.#inherited.take()
    if (slot === undefined) return
    // Once the call is answered, another call may have the slot.
    const { listener, container: number } = this.#slots.of(slot)
    try {
      const inherited = resumeInherited(slot, this.#slots, this.#state.listeners, this.#state.proxies)
      if (!inherited) return
      const { index, ...found } = inherited
      const call = receivedCall({ slot, ...found, container: this.#known.containerAt(number), start: now() })
      if (!this.#server.settle(call)) this.#service.serve(call, index)
    } finally {
      this.#state.countCall(listener, number, -1)
      this.#service.unmute(number)
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
    if (Atomics.load(state.containerCalls, container.index) < this.#capOf(container))
      this.#service.unmute(container.index)
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
    this.#service.handOver()
    this.#leadership.noteHeard(undefined)
    this.#post({ type: error instanceof LostThread ? 'lost' : 'failed', message: error.message })
    return sleepForever()
  }
}

Error.stackTraceLimit = 0
new OneShot(workerData as SharedArrayBuffer).wait()
const data = receiveMessageOnPort(parentPort!)!.message as ThreadData
requireBuild(data.build)
new EngineThread(data, parentPort!).run()
