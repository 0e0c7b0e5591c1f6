import type { Tid } from '../../abi/brand.ts'
import { type Alarm, now } from '../../kernel/clock.ts'
import { CACHE_LINE, struct } from '../../shared/words.ts'
import { LEAD, LeaderWord } from './leader-word.ts'
import { PARKING_WORDS, ParkingLot } from './parking-lot.ts'
import { NO_CONTAINER, type ThreadActivity } from './thread-activity.ts'

/**
 * lead: as in `LeaderWord`. deputy: 1 while a thread is the deputy. leader: the line of the leader in `ThreadActivity`.
 * epoch: how often a message was posted to the threads. progress: how many calls were begun. alarmed: the millisecond
 * at which the last call began, 0 after the alarm went off. rung: 1 if the deputy must come at once. looked: the
 * millisecond at which the deputy last looked. crowd: for how many more calls leaders share the lead.
 */
const [WORD, WORDS] = struct({
  lead: CACHE_LINE,
  deputy: CACHE_LINE,
  leader: CACHE_LINE,
  epoch: CACHE_LINE,
  progress: CACHE_LINE,
  alarmed: CACHE_LINE,
  rung: CACHE_LINE,
  looked: CACHE_LINE,
  crowd: CACHE_LINE,
  parking: PARKING_WORDS,
})
export const LEADERSHIP_WORDS = WORDS

/** How long a leader may serve a call before the deputy leads. */
export const LEADER_MS = 2
/**
 * How long new calls may put off the alarm: after that the deputy looks for hanging threads, even while calls begin.
 */
const LOOK_MS = 16

/**
 * How often a thread asks for the lead again before it parks, while the leader waits for a call, and while it receives
 * one.
 */
const SPINS = 500
const RECEIVING_SPINS = 2000

/** How many calls leaders share the lead for, after one has waited. Most calls of two callers do not wait. */
const CROWD = 64

/** Every 64th post wakes the parked threads. */
const POSTS = 64

/** Callbacks for hanging threads that do not lead. */
export interface Hangs {
  readonly onHang: (thread: Tid) => void
  /**
   * Asked while the leader waits: must the deputy soon look again? It must while a dedicated receiver serves a call: if
   * that call hangs, the listener's other callers wait, and no other thread sees their calls. Otherwise the deputy
   * looks when calls come: under load, a thread that waits for another one looks as if it hung.
   */
  readonly mayHang: () => boolean
}

interface LeadershipDependencies extends Hangs {
  /** How many threads may work at once; more only cost time. */
  readonly processors: number
  readonly alarm: Alarm
  /** Called with the container of a call that keeps a thread waiting. */
  readonly strike: (container: number) => void
}

/**
 * Leader election: one thread at a time, the leader, receives the notifications. Without a leader two threads race into
 * receive and one blocks there, for the kernel ignores O_NONBLOCK. The states of the lead are in `leader-word.ts`.
 *
 * Waking another thread for each call costs more than serving it (it wakes on the other processor, and so does the next
 * call). So the leader serves what it received, under an alarm on which one parked thread, the deputy, waits. If no
 * call has begun since the last alarm and the leader is not back, the deputy leads. A leader that knows that it will
 * block hands over the lead first. docs/internals/architecture.md has an example, step by step.
 *
 * When calls of several tasks wait, as many threads as there are processors share the lead. Each holds it only while it
 * receives. None has to be woken, because each comes back for the next call by itself. A thread that comes back while
 * another one receives spins: if it parked, both would soon be woken on the same processor, and the other processor
 * would be idle.
 *
 * Each lead has a term of its own: a thread that comes back late must not take or free the lead of another.
 *
 * Invariant: an object belongs to one thread, which alone calls it, and knows whether that thread leads. At most one
 * thread is the deputy. Precondition of `markWaiting`, `markReceiving`, `markBusy`, `serve` and `receiveTogether`:
 * `isOurs`.
 */
export class Leadership {
  readonly #words: Int32Array
  readonly #lead: LeaderWord
  readonly #parking: ParkingLot
  readonly #activity: ThreadActivity
  readonly #processors: number
  readonly #alarm: Alarm
  readonly #strike: (container: number) => void
  readonly #onHang: (thread: Tid) => void
  readonly #mayHang: () => boolean
  /** The term in which this thread leads. */
  #term: number | undefined

  constructor(
    words: Int32Array,
    activity: ThreadActivity,
    { processors, alarm, strike, onHang, mayHang }: LeadershipDependencies,
  ) {
    this.#words = words
    this.#lead = new LeaderWord(words, WORD.lead)
    this.#parking = new ParkingLot(words.subarray(WORD.parking))
    this.#activity = activity
    this.#processors = processors
    this.#alarm = alarm
    this.#strike = strike
    this.#onHang = onHang
    this.#mayHang = mayHang
  }

  /** Does this thread lead? If it is late, the deputy may lead instead: `rejoin` finds out. */
  get isOurs(): boolean {
    return this.#term !== undefined
  }

  /** How many threads are parked now, not counting the deputy. At 0 the pool should grow. */
  get parked(): number {
    return this.#parking.parked
  }

  /** How often a message was posted to the threads. */
  get epoch(): number {
    return Atomics.load(this.#words, WORD.epoch)
  }

  /** Takes the lead if nobody has it. */
  take(): boolean {
    return this.#takeFrom(LEAD.free)
  }

  /** Says that the leader waits for a call. */
  markWaiting(): void {
    this.#lead.set(this.#term!, LEAD.waiting)
  }

  /** A call of another task has waited while the leader served. */
  noteCrowd(): void {
    Atomics.store(this.#words, WORD.crowd, CROWD)
  }

  /** Whether leaders share the lead. Asked for each call that they could share it for; a lost count does not matter. */
  get isCrowded(): boolean {
    const left = Atomics.load(this.#words, WORD.crowd)
    if (left > 0) Atomics.store(this.#words, WORD.crowd, left - 1)
    return left > 0
  }

  /** Says that there is a call: the leader will soon share the lead, or serve. */
  markReceiving(): void {
    this.#lead.set(this.#term!, LEAD.receiving)
  }

  /** The leader is about to serve a call of this container. @param time `now()` */
  serve(container: number, time: number): void {
    this.#activity.begin(container, time)
    this.#lead.set(this.#term!, LEAD.serving)
    this.#begin(time)
  }

  /** This thread, which does not lead, is about to serve a call of this container. @param time `now()` */
  helpServe(container: number, time: number): void {
    this.#activity.come()
    this.#activity.begin(container, time)
    this.#begin(time)
  }

  /** Says that the leader does something else for a moment. It keeps the lead, unless it is late. */
  markBusy(): void {
    this.serve(NO_CONTAINER, now())
  }

  /**
   * Frees the lead for the thread that comes back first: the leader is about to serve a call of this container, and
   * others may come meanwhile.
   *
   * @param time `now()`
   * @returns false if there should be one more thread
   */
  receiveTogether(container: number, time: number): boolean {
    this.#activity.begin(container, time)
    const term = this.#term!
    this.#term = undefined
    if (!this.#lead.free(term)) return true
    const isWanted = this.#activity.active < this.#processors
    const isThere = this.parked > 0
    if (isWanted) this.#parking.wakeOne()
    this.#begin(time)
    return !isWanted || isThere
  }

  /**
   * Wakes a thread to become the deputy, if there is none. @returns false if there is no deputy and no parked thread
   */
  callDeputy(): boolean {
    if (Atomics.load(this.#words, WORD.deputy) !== 0) return true
    if (this.parked === 0) return false
    this.#parking.wakeOne()
    return true
  }

  /**
   * Takes the lead as soon as nobody has it, if that is soon, and if no older threads keep the processors busy.
   *
   * @returns whether this thread leads
   */
  await(): boolean {
    for (let spins = 0; spins < RECEIVING_SPINS; spins++) {
      if (this.take()) return true
      if (spins === 0 && this.#activity.isSurplus(this.#processors)) return false
      if (spins > SPINS && this.#lead.state !== LEAD.receiving) return false
    }
    return false
  }

  /** The thread has served its call, or is new. If it led, it continues to lead, unless the deputy has taken over. */
  rejoin(): void {
    this.#activity.come()
    if (this.#term === undefined || this.#lead.change(this.#term, LEAD.serving, LEAD.waiting)) return
    this.#term = undefined
  }

  /** The thread will block or end: if it leads, another thread takes over. */
  handOver(): void {
    this.#activity.leave()
    const term = this.#term
    this.#term = undefined
    if (term === undefined || this.#lead.free(term)) this.offer()
  }

  /** If no thread leads, wakes one that has nothing else to do. */
  offer(): void {
    if (!this.#isFree) return
    if (this.parked > 0) this.#parking.wakeOne()
    else this.#ring()
  }

  /**
   * Blocks the thread until there may be something to do: to lead, or to read a posted message. Then it leads if it
   * can.
   */
  park(): void {
    this.#activity.leave()
    if (Atomics.compareExchange(this.#words, WORD.deputy, 0, 1) === 0) this.#deputize()
    else {
      const { epoch } = this
      this.#parking.sit(
        this.#activity.age,
        () => this.#isFree || Atomics.load(this.#words, WORD.deputy) === 0 || this.epoch !== epoch,
      )
    }
    this.#activity.come()
    if (this.#term === undefined) this.take()
  }

  /**
   * A message was posted to all threads: each reads it before it leads. Parked threads are woken only once in a while,
   * just so that not too many messages wait for them. After such a wake-up other threads lead, whose code is not
   * compiled yet.
   */
  notePost(): void {
    if (Atomics.add(this.#words, WORD.epoch, 1) % POSTS !== 0) return
    this.#parking.wakeAll()
    this.#ring()
  }

  /** This thread has read the messages up to this epoch. @param epoch undefined if it reads no more */
  noteHeard(epoch: number | undefined): void {
    this.#activity.hear(epoch)
  }

  /** The most messages that wait for one of the threads: one that hangs reads none. */
  get unheard(): number {
    return this.#activity.unheard(this.epoch)
  }

  /**
   * A call begins. This sets the alarm again at most once a millisecond, so the alarm may go off a little early; the
   * deputy then checks for progress. Calls cannot put it off for ever.
   */
  #begin(time: number): void {
    Atomics.add(this.#words, WORD.progress, 1)
    // As the words have it, which begin again every 50 days.
    const ms = Math.trunc(time) | 0
    const alarmed = Atomics.exchange(this.#words, WORD.alarmed, ms)
    if (alarmed === ms) return
    if (alarmed === 0 || ((ms - Atomics.load(this.#words, WORD.looked)) | 0) < LOOK_MS) this.#alarm.set()
  }

  /** Calls the deputy at once. */
  #ring(): void {
    Atomics.store(this.#words, WORD.rung, 1)
    this.#alarm.ring()
  }

  #deputize(): void {
    const isLate = this.#watch()
    const late = Atomics.load(this.#words, WORD.leader)
    const leads = isLate && this.#takeFrom(LEAD.serving)
    if (leads && this.#activity.countOut(late)) this.#strikeFor(this.#activity.containerOf(late))
    Atomics.store(this.#words, WORD.deputy, 0)
    // This thread will lead, unless another one is faster: so another thread becomes the deputy.
    if (leads || this.#isFree) this.#parking.wakeOne()
  }

  /** Returns when no call makes progress, or the alarm was rung. @returns whether the leader is late */
  #watch(): boolean {
    let seen = Atomics.load(this.#words, WORD.progress)
    for (;;) {
      this.#alarm.wait()
      const time = now()
      Atomics.store(this.#words, WORD.looked, Math.trunc(time))
      Atomics.store(this.#words, WORD.alarmed, 0)
      if (Atomics.exchange(this.#words, WORD.rung, 0) === 1) {
        // The leader may have set the alarm already for the call that it serves: the next deputy looks at it.
        if (this.#lead.state === LEAD.serving) this.#alarm.set()
        return false
      }
      const progress = Atomics.load(this.#words, WORD.progress)
      const { state } = this.#lead
      const leader = Atomics.load(this.#words, WORD.leader)
      const waits = state === LEAD.waiting || state === LEAD.receiving
      const idle = waits ? leader : undefined
      for (const line of this.#activity.countOutHanging(idle, time)) this.#hangs(line)
      // A leader that only waits for a processor will be back: another thread would not be faster.
      const moves = progress !== seen || (state === LEAD.serving && this.#activity.isBusy(leader))
      if (!moves && !waits) return true
      seen = progress
      if (!waits || this.#mayHang()) this.#alarm.set()
    }
  }

  #hangs(line: number): void {
    this.#strikeFor(this.#activity.containerOf(line))
    this.#onHang(this.#activity.threadOf(line))
  }

  #strikeFor(container: number): void {
    if (container !== NO_CONTAINER) this.#strike(container)
  }

  #takeFrom(state: number): boolean {
    const term = this.#lead.takeFrom(state)
    if (term === undefined) return false
    this.#term = term
    Atomics.store(this.#words, WORD.leader, this.#activity.self)
    return true
  }

  get #isFree(): boolean {
    return this.#lead.state === LEAD.free
  }
}
