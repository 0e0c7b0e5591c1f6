import type { Container } from '../../caller/identity/container.ts'
import { accountedTime, now, threadTime } from '../../kernel/clock.ts'
import type { Epoll } from '../../kernel/epoll.ts'
import type { DedicatedReceiver } from '../leader/dedicated-receiver.ts'
import type { Leadership } from '../leader/leadership.ts'
import { type Call, isBrief, readsFirst } from '../serve/call-end.ts'
import type { Server } from '../serve/server.ts'
import { hasBegun } from '../tables/inherited-calls.ts'
import { IN_TURN_MS } from './fair-share.ts'
import type { Lane } from './lane.ts'
import type { SharedState } from './shared-state.ts'
import type { FromThread } from './thread-messages.ts'

/**
 * The maximum age, in milliseconds, of the processor time that a call starts from. Calls that follow each other closely
 * need not each ask the kernel. A call may be charged with the work of calls this short time before it.
 */
const FRESH_MS = 0.1

/**
 * Measures the processor time of one thread's calls.
 *
 * Invariant: an object belongs to one thread, which alone calls it.
 */
class CallCost {
  /** The thread's processor time, and when it was read, both in milliseconds. */
  #accounted = 0
  #read = Number.NEGATIVE_INFINITY

  /** A call begins. @param time `now()` */
  begin(time: number): void {
    if (time - this.#read < FRESH_MS) return
    this.#read = time
    this.#accounted = accountedTime()
  }

  /**
   * Returns the processor time of the ended call in milliseconds; 0 if it was too short to matter.
   *
   * @param start `now()` when the call began
   * @param leads whether this thread leads
   */
  end(start: number, leads: boolean): number {
    const took = now() - start
    if (took <= IN_TURN_MS) return 0
    // All callers wait for the leader, so it must not lose its processor now, and `threadTime` could cause that. The
    // less exact time is enough: a leader that serves a call serves alone.
    const time = leads ? accountedTime() : threadTime()
    this.#read = Number.NEGATIVE_INFINITY
    return Math.min(took, time - this.#accounted)
  }
}

/** The shortest time between two requests of one thread for more threads. */
const GROW_MS = 10

/** What the service needs from its thread. */
interface CallServiceDependencies {
  readonly state: SharedState
  readonly server: Server
  readonly leadership: Leadership
  readonly dedicated: DedicatedReceiver
  readonly lane: Lane
  readonly epoll: Epoll
  /** How many calls of all containers may be served at once. */
  readonly calls: number
  /** Sends a message to the main thread. */
  readonly post: (message: FromThread) => void
}

/**
 * Serves the calls that one thread has received, and decides who receives the other calls meanwhile.
 *
 * Invariant: an object belongs to one thread, which alone calls it.
 */
export class CallService {
  readonly #dependencies: CallServiceDependencies
  readonly #state: SharedState
  readonly #server: Server
  readonly #leadership: Leadership
  readonly #dedicated: DedicatedReceiver
  readonly #cost = new CallCost()
  /** `now()` when this thread last asked for another thread. */
  #grown = Number.NEGATIVE_INFINITY

  constructor(dependencies: CallServiceDependencies) {
    this.#dependencies = dependencies
    this.#state = dependencies.state
    this.#server = dependencies.server
    this.#leadership = dependencies.leadership
    this.#dedicated = dependencies.dedicated
  }

  /**
   * Serves a call. From here on the thread may block in the container; if it does, the deputy takes the lead.
   *
   * @returns whether the call was answered at once
   */
  serve(call: Call, index: number): boolean {
    const { index: container } = call.container
    // An inherited call has been counted since this engine began.
    const counts = call.left === undefined
    if (counts) this.#state.countCall(index, container, 1)
    if (!this.#mayBegin(call)) {
      this.#server.continue(call, 'containerBusy')
      if (counts) this.#state.countCall(index, container, -1)
      this.#state.countAnswer()
      // While the call waited, it may have been the one for which others of its container wait.
      this.unmute(container)
      return false
    }
    let atOnce: boolean
    try {
      atOnce = this.#answer(call)
      if (!atOnce) this.#dedicated.note(undefined)
      this.#dependencies.lane.fast()
    } finally {
      this.#state.leave()
      if (counts) this.#state.countCall(index, container, -1)
      // The answer of a dedicated receiver does not prove that a thread leads.
      if (!this.#isDedicated) this.#state.countAnswer()
      this.unmute(container)
      this.#leadership.rejoin()
    }
    const spent = this.#cost.end(call.start, this.#leadership.isOurs)
    if (spent > 0) this.#state.charge(container, spent)
    return atOnce
  }

  /**
   * At the limit a call waits here, and a leader keeps the lead: until another call has ended, no thread is free to
   * receive. If none ends, the call is continued, so that one thread remains to lead.
   */
  #mayBegin(call: Call): boolean {
    const { calls: limit } = this.#dependencies
    return this.#state.enterOrWait(limit) || (hasBegun(call) && this.#state.enterOrWait(Number.POSITIVE_INFINITY))
  }

  /**
   * Serves the call. If the handler says that a copy of the request mostly decides the call, a leader copies it first
   * and keeps the lead. Only if the copy does not decide does it let other threads receive calls.
   *
   * @returns whether the call was answered at once
   */
  #answer(call: Call): boolean {
    const keepsLead = readsFirst(call) && this.#leadership.isOurs && this.trusts(call.container)
    if (keepsLead) this.#leadership.serve(call.container.index, call.start)
    else this.#handOverOrKeep(call)
    this.#cost.begin(call.start)
    if (this.#server.read(call)) return readsFirst(call)
    if (this.#isDedicated && !isBrief(call)) this.#dedicated.end()
    if (keepsLead) {
      // The deputy may have taken the lead meanwhile.
      this.#leadership.rejoin()
      this.#handOverOrKeep(call)
    }
    this.#server.serve(call)
    return isBrief(call)
  }

  /** Returns whether a receiving thread may serve calls of a container: they do not take long. */
  trusts({ index }: Container): boolean {
    return !this.#state.slow.isDear(index) && !this.#state.distrusts(index)
  }

  /** Hands over, shares or keeps the lead while this thread serves a call, depending on the container. */
  #handOverOrKeep(call: Call): void {
    const { start, container } = call
    const { index } = container
    if (this.#state.slow.isDear(index)) this.mayBlock()
    else if (!this.#leadership.isOurs) this.#leadership.helpServe(index, start)
    else if (this.#state.distrusts(index)) this.handOver()
    else if (!isBrief(call) && (this.#leadership.isCrowded || this.#dependencies.epoll.isReady))
      this.#receiveTogether(index, start)
    else this.#leadership.serve(index, start)
  }

  #receiveTogether(container: number, start: number): void {
    if (!this.#leadership.receiveTogether(container, start)) this.askForThread()
  }

  /** Hands over the lead and enters the slow lane: this thread's call may take long, and loses its priority. */
  mayBlock(): void {
    if (this.#isDedicated) this.#dedicated.end()
    this.handOver()
    this.#dependencies.lane.slow()
  }

  /** Lets another thread lead and work in place of this thread, which may block for long from now on. */
  handOver(): void {
    if (this.#leadership.parked === 0) this.askForThread()
    this.#leadership.handOver()
  }

  /**
   * Asks for another thread, at most every `GROW_MS`: a thread takes longer than that to start, or the limit is
   * reached.
   */
  askForThread(): void {
    const time = now()
    if (time - this.#grown < GROW_MS) return
    this.#grown = time
    this.#dependencies.post({ type: 'grow' })
  }

  /**
   * Asks the main thread to unmute a container's listeners. It alone closes listeners, so it cannot confuse a listener
   * that ends meanwhile with another of the same number.
   */
  unmute(container: number): void {
    if (this.#state.muted(container) > 0) this.#dependencies.post({ type: 'unmute', container })
  }

  get #isDedicated(): boolean {
    return this.#dedicated.listener !== undefined
  }
}
