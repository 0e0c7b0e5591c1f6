import type { Tid } from '../../abi/brand.ts'
import { SCHED, SCHED_RESET_ON_FORK } from '../../abi/sched.ts'
import { LostThread, type ThreadIdentity } from '../../caller/identity/thread-identity.ts'
import { currentTid } from '../../kernel/process.ts'
import { schedSetscheduler } from '../../kernel/sched.ts'

/** As many as there can be threads, and as many that were lost. */
const THREADS = 2 * 512
/** What the main thread wants: the real-time priority of the fast lane, 0 for none; and how the process was started. */
const PRIORITY = 0
const USUAL_POLICY = 1
const USUAL_PRIORITY = 2
const COUNT = 3
const HEAD = 16
/** Of a thread: its id, and how often it has changed the lane; it is in the slow one after an odd number. */
const WORDS = 2
const THREAD = 0
const CHANGES = 1
export const LANE_WORDS = HEAD + THREADS * WORDS

interface Rule {
  readonly policy: number
  readonly priority: number
}

/** With SCHED_RESET_ON_FORK: what the process starts is scheduled as usual. */
const raised = (priority: number): Rule => ({ policy: SCHED.RR | SCHED_RESET_ON_FORK, priority })

/**
 * In which lane each engine thread is. In the fast one are those that wait for calls and those that serve what is soon done: they
 * have the priority that is wanted, if one is. In the slow one a thread does what may take long: as any other process would.
 *
 * A thread may change its lane just when the main thread gives all of them another priority. So whoever does one says so first,
 * does it, and does it again if the other one has said something meanwhile.
 */
export class Lanes {
  readonly #words: Int32Array

  /** @param words LANE_WORDS that all threads share */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** How the process was started. To be told before there is a thread. */
  start({ policy, priority }: Rule): void {
    this.#words[USUAL_POLICY] = policy
    this.#words[USUAL_PRIORITY] = priority
  }

  get usual(): Rule {
    return { policy: this.#words[USUAL_POLICY]!, priority: this.#words[USUAL_PRIORITY]! }
  }

  /** The priority that the fast lane has: 0 for the usual one. */
  get priority(): number {
    return Atomics.load(this.#words, PRIORITY)
  }

  set priority(wanted: number) {
    Atomics.store(this.#words, PRIORITY, wanted)
  }

  /** How a thread in the fast lane is scheduled. */
  get fast(): Rule {
    const { priority } = this
    return priority > 0 ? raised(priority) : this.usual
  }

  /** Gives a thread what it shall have now. Needs CAP_SYS_NICE. */
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
    const at = HEAD + WORDS * Atomics.add(this.#words, COUNT, 1)
    const tid = currentTid()
    Atomics.store(this.#words, at + THREAD, tid)
    return new Lane(this, { tid, identity, fault, change: () => Atomics.add(this.#words, at + CHANGES, 1) })
  }

  /** undefined: it is none that serves calls. */
  #find(tid: Tid): number | undefined {
    const end = HEAD + WORDS * Atomics.load(this.#words, COUNT)
    for (let at = HEAD; at < end; at += WORDS) if (this.#words[at + THREAD] === tid) return at
    return undefined
  }

  #changes(at: number | undefined): number {
    return at === undefined ? 0 : Atomics.load(this.#words, at + CHANGES)
  }
}

interface Parts {
  readonly tid: Tid
  readonly identity: ThreadIdentity
  readonly fault: (message: string) => void
  /** To be called before it changes. */
  readonly change: () => void
}

/** In which lane the calling thread is: in the fast one at first. */
export class Lane {
  readonly #lanes: Lanes
  readonly #parts: Parts
  #isSlow = false
  #isLowered = false
  #hasFailed = false

  constructor(lanes: Lanes, parts: Parts) {
    this.#lanes = lanes
    this.#parts = parts
  }

  /** What follows may take long. May be called again. */
  slow(): void {
    if (this.#isSlow) return
    this.#isSlow = true
    this.#parts.change()
    if (this.#lanes.priority === 0) return
    this.#isLowered = true
    // A lower priority of the same real-time policy, or a policy that is none, nobody needs a capability for; but for taking off
    // SCHED_RESET_ON_FORK. (linux/kernel/sched/syscalls.c user_check_sched_setscheduler())
    const { policy, priority } = this.#lanes.usual
    this.#try(() => this.#set({ policy: (priority > 0 ? SCHED.RR : policy) | SCHED_RESET_ON_FORK, priority }))
  }

  /** The call is over, and the thread at home. */
  fast(): void {
    if (!this.#isSlow) return
    this.#isSlow = false
    this.#parts.change()
    if (!this.#isLowered && this.#lanes.priority === 0) return
    this.#isLowered = false
    this.#try(() => this.#parts.identity.raising(() => this.#rise()))
  }

  #rise(): void {
    for (let priority = -1; priority !== this.#lanes.priority; ) {
      priority = this.#lanes.priority
      this.#set(this.#lanes.fast)
    }
  }

  #set({ policy, priority }: Rule): void {
    schedSetscheduler(this.#parts.tid, policy, priority)
  }

  /** A thread that has not the priority which it should have still serves; why is told once. */
  #try(action: () => void): void {
    try {
      action()
    } catch (error) {
      if (error instanceof LostThread) throw error
      if (!this.#hasFailed) this.#parts.fault(`Cannot change the priority of a thread: ${(error as Error).message}`)
      this.#hasFailed = true
    }
  }
}
