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
import { adopt, hasBegun, ORPHANS_TOKEN, Orphans } from '../journal/inherited-calls.ts'
import { RecordWriter, Slots } from '../journal/journal.ts'
import { Attendance } from '../leader/dedicated-receiver.ts'
import type { Lead } from '../leader/leadership.ts'
import { Monitors } from '../lxc/lxc-proxy.ts'
import { Adoptions } from '../replay/replay.ts'
import { type Call, Server } from '../serve/server.ts'
import { FairShare } from './fair-share.ts'
import { KnownContainers } from './known-containers.ts'
import type { Lane } from './lane.ts'
import { PoolState } from './shared-state.ts'
import type { FromThread, ThreadData } from './thread-messages.ts'
import { Services } from './thread-services.ts'

/** A thread that never yields leaks what the event loop would free: so it yields once in so many turns. */
const TURNS = 1000
/** So often it keeps the lead then. */
const LEADS = 4
const GROW_MS = 10

class EngineThread {
  readonly #data: ThreadData
  readonly #port: MessagePort
  readonly #state: PoolState
  readonly #slots: Slots
  readonly #server: Server
  readonly #monitors: Monitors
  readonly #event = new EpollEvent()
  readonly #epoll: Epoll
  readonly #lead: Lead
  readonly #lane: Lane
  readonly #orphans: Orphans
  readonly #attendance: Attendance
  readonly #known: KnownContainers
  #runs = 0
  /** When it has last asked for another thread. */
  #grown = Number.NEGATIVE_INFINITY

  constructor(data: ThreadData, port: MessagePort) {
    this.#data = data
    this.#port = port
    this.#known = new KnownContainers(port)
    this.#state = new PoolState(data.state)
    this.#lead = this.#state.leadOf(data)
    this.#epoll = new Epoll(new Fd(data.epoll))
    this.#orphans = new Orphans(this.#state.orphans, this.#epoll, new Fd(data.orphans))
    const journal = map(new Fd(data.journal))
    this.#slots = new Slots(journal)
    this.#attendance = new Attendance({ state: this.#state, slots: this.#slots, epoll: this.#epoll })
    const { desk } = new Services(data, this.#state, {
      post: (message) => this.#post(message),
      mayBlock: () => this.#mayBlock(),
      unmute: (container) => this.#unmute(container),
    })
    const records = new RecordWriter(journal, () => this.#post({ type: 'halfFull' }))
    const adoptions = new Adoptions(this.#state.undelivered, this.#slots.view, () => this.#mayBlock())
    const onFault = (message: string): void => this.#post({ type: 'fault', message })
    this.#lane = this.#state.lanes.own(desk.identity, onFault)
    this.#server = new Server(desk, this.#slots, records, adoptions, onFault)
    this.#monitors = new Monitors(this.#state.proxies, (why) =>
      this.#post({ type: 'fault', message: `Cannot serve a monitor of LXC: ${why}` }),
    )
    this.#post({ type: 'ready' })
  }

  run(): void {
    if (!this.#attends) this.#lead.resume()
    try {
      for (let turn = 0; turn < TURNS; turn++) this.#turn()
    } catch (error) {
      this.#abandon(error as Error)
    }
    // It keeps the lead, for another thread would wake on another processor than that of the callers; but not for ever, for it
    // may be on another one itself.
    if (!this.#attends && ++this.#runs % LEADS === 0) this.#passLead()
    else if (this.#lead.isOurs) this.#lead.rest()
    setImmediate(() => this.run())
  }

  #turn(): void {
    if (this.#attendance.listener !== undefined) {
      this.#attend(this.#attendance.listener)
      return
    }
    while (!this.#lead.isOurs) this.#follow()
    this.#lead.wait()
    if (!this.#event.wait(this.#data.epoll, -1)) return
    this.#lead.receive()
    this.#known.hear(this.#lead.epoch)
    const { token: index, generation, events } = this.#event
    if (index === ORPHANS_TOKEN) this.#resume()
    if (this.#state.listenerGeneration[index] !== generation) return
    if (this.#state.proxies.has(index)) this.#receiveForwarded(index, generation)
    else if ((events & EPOLLIN) !== 0) this.#receive(index)
    else if ((events & (EPOLLHUP | EPOLLERR)) !== 0) this.#hangUp(index, generation)
  }

  get #attends(): boolean {
    return this.#attendance.listener !== undefined
  }

  #follow(): void {
    if (!this.#lead.await()) {
      this.#lead.park()
      this.#known.hear(this.#lead.epoch)
    }
    // Whoever leads without a deputy, and blocks, blocks all.
    if (this.#lead.isOurs && !this.#lead.callDeputy()) this.#grow()
  }

  #receive(index: number): void {
    const state = this.#state
    const container = this.#known.of(state.listenerContainer[index]!)
    if (Atomics.load(state.containerCalls, container.index) >= this.#capOf(container)) {
      this.#mute(index, container)
      return
    }
    const listener = state.listenerFd[index]!
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
    if (this.#attendance.note(index) && this.#lead.parked > 0 && this.#attendance.begin(index)) this.#passLead()
  }

  /**
   * Waits for the next call of the one listener that this thread attends. One that must be served may be one more than its
   * container may have in flight, for it has been received.
   */
  #attend(index: number): void {
    const received = this.#attendance.receive()
    this.#known.hear(this.#lead.epoch)
    if (!received) {
      this.#lead.resume()
      return
    }
    const { listenerFd, listenerContainer } = this.#state
    const container = this.#known.of(listenerContainer[index]!)
    const call: Call = { slot: this.#attendance.slot, listener: listenerFd[index]!, container, start: now() }
    if (this.#server.screen(call)) return
    this.#state.holdListener(index, 1)
    this.#attendance.end()
    try {
      this.#serve(call, index)
    } finally {
      this.#state.holdListener(index, -1)
    }
  }

  /** From a monitor of LXC. It waits for the reply, so its connection is never muted: a call over the cap is passed on. */
  #receiveForwarded(index: number, generation: number): void {
    const { listenerFd, listenerContainer, containerCalls } = this.#state
    const container = this.#known.of(listenerContainer[index]!)
    const slot = this.#take(index, container)
    if (slot < 0) return
    const connection = new Fd(listenerFd[index]!)
    const received = this.#monitors.receive(index, connection, this.#slots.notification(slot))
    if (received === 'over') this.#hangUp(index, generation)
    if (received === 'over' || received === undefined) {
      this.#slots.setState(slot, STATE.free)
      return
    }
    using forwarded = received
    this.#slots.receive(slot)
    const call: Call = { slot, listener: forwarded.listener, container, start: now(), forwarded }
    if (Atomics.load(containerCalls, container.index) >= this.#capOf(container))
      this.#server.pass(call, 'containerBusy')
    else if (!this.#server.screen(call)) this.#serve(call, index)
    this.#state.countAnswer()
  }

  /** From here on the thread may block on what belongs to the container: the deputy leads if it does not come back soon. */
  #serve(call: Call, index: number): void {
    const { index: container } = call.container
    // It is left to the kernel rather than that nobody is left to lead.
    if (this.#state.calls >= this.#data.calls && !hasBegun(call)) {
      this.#server.pass(call, 'containerBusy')
      return
    }
    this.#attendance.note(undefined)
    this.#state.countCall(index, container, 1)
    this.#leadOn(call)
    const accounted = accountedTime()
    try {
      this.#server.serve(call)
      this.#lane.fast()
    } finally {
      this.#state.countCall(index, container, -1)
      this.#state.countAnswer()
      this.#unmute(container)
      this.#lead.resume()
    }
    this.#charge(call, accounted)
  }

  /** @param accounted how long the thread had worked when the call began, as far as that was known then */
  #charge({ container: { index }, start }: Call, accounted: number): void {
    const took = now() - start
    if (FairShare.isCheap(took)) return
    // All wait for who leads: it must not lose its processor now. What it serves, it serves alone.
    const time = this.#lead.isOurs ? accountedTime() : threadTime()
    this.#state.share.charge(index, Math.min(took, time - accounted))
  }

  /** Who leads while this thread serves a call? */
  #leadOn({ container: { index }, start }: Call): void {
    if (this.#state.share.isDear(index)) this.#mayBlock()
    else if (!this.#lead.isOurs) this.#lead.help(index, start)
    else if (this.#state.distrusts(index)) this.#passLead()
    else if (!this.#server.isBrief && this.#epoll.isReady) this.#lead.share(index, start)
    else this.#lead.serve(index, start)
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
  #resume(): void {
    const slot = this.#orphans.take()
    if (slot === undefined) return
    const orphan = adopt(slot, this.#slots, this.#state)
    if (!orphan) return
    const { index, ...found } = orphan
    const container = this.#known.of(this.#slots.view.getUint32(slot + SLOT.container, true))
    const call: Call = { slot, ...found, container, start: now() }
    try {
      if (!this.#server.settle(call)) this.#serve(call, index)
    } finally {
      this.#orphans.finish()
      this.#state.countAnswer()
    }
  }

  /** Over its cap a container's listener stays registered without events: only then does EPOLLHUP still come. */
  #mute(index: number, container: Container): void {
    const state = this.#state
    this.#epoll.modify(state.listenerFd[index]!, 0, [index, state.listenerGeneration[index]!])
    state.countMuted(index, 1)
    Atomics.store(state.listenerMuted, index, 1)
    // A call may have ended in between, before it could see the mark.
    if (Atomics.load(state.containerCalls, container.index) < this.#capOf(container)) this.#unmute(container.index)
  }

  /** By the main thread, which alone closes descriptors: a listener that ends meanwhile must not be confused with another. */
  #unmute(container: number): void {
    if (this.#state.muted(container) > 0) this.#post({ type: 'unmute', container })
  }

  #hangUp(index: number, generation: number): void {
    this.#epoll.remove(this.#state.listenerFd[index]!)
    this.#state.clearMuted(index)
    this.#post({ type: 'gone', index, generation })
  }

  /** What the call of this thread needs may take long: it is done as any other process would do it. */
  #mayBlock(): void {
    this.#passLead()
    this.#lane.slow()
  }

  /** The thread may wait for long from now on: somebody else leads, and works in its place. */
  #passLead(): void {
    if (this.#lead.parked === 0) this.#grow()
    this.#lead.pass()
  }

  /** Not with every call: a thread takes a while to start, and there may be as many as there can be. */
  #grow(): void {
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
    if (this.#attends) this.#attendance.end()
    this.#passLead()
    this.#post({ type: error instanceof LostThread ? 'lost' : 'failed', message: error.message })
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    throw error
  }
}

Error.stackTraceLimit = 0
const data = workerData as ThreadData
requireBuild(data.build)
new EngineThread(data, parentPort!).run()
