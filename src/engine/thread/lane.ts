import type { Tid } from '../../abi/brand.ts'
import { SCHED, SCHED_RESET_ON_FORK } from '../../abi/sched.ts'
import { LostThread, type ThreadIdentity } from '../../caller/identity/thread-identity.ts'
import { currentTid } from '../../kernel/process.ts'
import { schedSetscheduler } from '../../kernel/sched.ts'
import { CACHE_LINE, struct } from '../../shared/words.ts'
import { THREADS } from '../leader/thread-activity.ts'

/**
 * priority: the real-time priority that the main thread wants for the fast lane, 0 for none. usualPolicy,
 * usualPriority: how the process was started. count: how many threads have a place.
 */
const [HEAD, HEAD_WORDS] = struct({ priority: 1, usualPolicy: 1, usualPriority: 1, count: CACHE_LINE - 3 })
/**
 * The words of a thread: its id, and how often it has changed lanes. After an odd number of changes it is in the slow
 * lane.
 */
const [WORD, WORDS] = struct({ thread: 1, changes: 1 })
export const LANE_WORDS = HEAD_WORDS + THREADS * WORDS

interface Rule {
  readonly policy: number
  readonly priority: number
}

/** With SCHED_RESET_ON_FORK, child processes are scheduled normally. */
const raised = (priority: number): Rule => ({ policy: SCHED.RR | SCHED_RESET_ON_FORK, priority })

/**
 * The lane of each engine thread. Threads that wait for calls, or serve calls that end soon, are in the fast lane: they
 * have the wanted priority, if there is one. A thread whose work may take long is in the slow lane, scheduled like any
 * other process.
 *
 *   fast -> slow   Lane.slow(), by the thread itself
 *   slow -> fast   Lane.fast(), by the thread itself, when its call is over
 *
 * Invariant: the main thread alone sets `priority`, and calls `start` before there is a thread, and `schedule`; a
 * thread alone changes its place. Both may happen at once. So the thread counts its change before it sets its
 * scheduling, and sets it again if `priority` has changed by then. The main thread sets `priority` before it schedules
 * a thread, and schedules the thread again if it has changed lanes by then.
 */
export class Lanes {
  readonly #words: Int32Array

  /** @param words LANE_WORDS that all threads share */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** Keeps the scheduling with which the process was started. To be called before there is a thread. */
  start({ policy, priority }: Rule): void {
    this.#words[HEAD.usualPolicy] = policy
    this.#words[HEAD.usualPriority] = priority
  }

  get usual(): Rule {
    return { policy: this.#words[HEAD.usualPolicy]!, priority: this.#words[HEAD.usualPriority]! }
  }

  /** The priority of the fast lane: 0 for the normal one. */
  get priority(): number {
    return Atomics.load(this.#words, HEAD.priority)
  }

  set priority(wanted: number) {
    Atomics.store(this.#words, HEAD.priority, wanted)
  }

  /** How a thread in the fast lane is scheduled. */
  get fast(): Rule {
    const { priority } = this
    return priority > 0 ? raised(priority) : this.usual
  }

  /** Schedules a thread as its lane now requires. Needs CAP_SYS_NICE. */
  schedule(tid: Tid): void {
    const at = this.#find(tid)
    for (let before = -1; before !== this.#changes(at); ) {
      before = this.#changes(at)
      const { policy, priority } = before % 2 === 0 ? this.fast : this.usual
      schedSetscheduler(tid, policy, priority)
    }
  }

  /** The lane of the calling thread. @param fault told why a priority cannot be had */
  own(identity: ThreadIdentity, fault: (message: string) => void): Lane {
    const at = HEAD_WORDS + WORDS * Atomics.add(this.#words, HEAD.count, 1)
    const tid = currentTid()
    Atomics.store(this.#words, at + WORD.thread, tid)
    return new Lane(this, { tid, identity, fault, change: () => Atomics.add(this.#words, at + WORD.changes, 1) })
  }

  /** @returns undefined for a thread that serves no calls */
  #find(tid: Tid): number | undefined {
    const end = HEAD_WORDS + WORDS * Atomics.load(this.#words, HEAD.count)
    for (let at = HEAD_WORDS; at < end; at += WORDS) if (this.#words[at + WORD.thread] === tid) return at
    return undefined
  }

  #changes(at: number | undefined): number {
    return at === undefined ? 0 : Atomics.load(this.#words, at + WORD.changes)
  }
}

interface LaneDependencies {
  readonly tid: Tid
  readonly identity: ThreadIdentity
  readonly fault: (message: string) => void
  /** To be called before the lane changes. */
  readonly change: () => void
}

/**
 * The lane of the calling thread: the fast lane at first.
 *
 * Invariant: an object belongs to one thread, which alone calls it.
 */
export class Lane {
  readonly #lanes: Lanes
  readonly #dependencies: LaneDependencies
  #isSlow = false
  #isLowered = false
  #hasFailed = false

  constructor(lanes: Lanes, dependencies: LaneDependencies) {
    this.#lanes = lanes
    this.#dependencies = dependencies
  }

  /** Enters the slow lane: what follows may take long. May be called again. */
  slow(): void {
    if (this.#isSlow) return
    this.#isSlow = true
    this.#dependencies.change()
    if (this.#lanes.priority === 0) return
    this.#isLowered = true
    // A thread may lower its priority in the same real-time policy, or take a policy that is not real-time, without a
    // capability, but it may not take off SCHED_RESET_ON_FORK (linux/kernel/sched/syscalls.c
    // user_check_sched_setscheduler()).
    const { policy, priority } = this.#lanes.usual
    this.#try(() => this.#set({ policy: (priority > 0 ? SCHED.RR : policy) | SCHED_RESET_ON_FORK, priority }))
  }

  /** Enters the fast lane: the call is over, and the thread is home. */
  fast(): void {
    if (!this.#isSlow) return
    this.#isSlow = false
    this.#dependencies.change()
    if (!this.#isLowered && this.#lanes.priority === 0) return
    this.#isLowered = false
    this.#try(() => this.#dependencies.identity.raising(() => this.#rise()))
  }

  #rise(): void {
    for (let priority = -1; priority !== this.#lanes.priority; ) {
      priority = this.#lanes.priority
      this.#set(this.#lanes.fast)
    }
  }

  #set({ policy, priority }: Rule): void {
    schedSetscheduler(this.#dependencies.tid, policy, priority)
  }

  /** A thread that cannot get its priority still serves; the reason is reported once. */
  #try(action: () => void): void {
    try {
      action()
    } catch (error) {
      if (error instanceof LostThread) throw error
      if (!this.#hasFailed)
        this.#dependencies.fault(`Cannot change the priority of a thread: ${(error as Error).message}`)
      this.#hasFailed = true
    }
  }
}
