import { now } from '../../kernel/clock.ts'
import type { Alarm } from '../../kernel/timer.ts'
import { FREE, LeaderWord, RECEIVING, SERVING, WAITING } from './leader-word.ts'
import { PARKING_WORDS, ParkingLot } from './parking-lot.ts'
import { NO_CONTAINER, type ThreadActivity } from './thread-activity.ts'

/** Each in a cache line of its own. */
const WORDS = {
  lead: 0,
  deputy: 16,
  leader: 32,
  epoch: 48,
  progress: 64,
  alarmed: 80,
  rung: 96,
  looked: 112,
} as const
const SEATS_AT = 128
export const LEADERSHIP_WORDS = SEATS_AT + PARKING_WORDS

/** How long a leader may serve a call before the deputy leads. */
export const LEADER_MS = 2
/** So often the deputy looks who hangs, also where there is progress. */
const LOOK_MS = 16

/** How often a thread asks for the lead again before it parks, if the leader waits for a call, or receives one. */
const SPINS = 500
const RECEIVING_SPINS = 2000

const POSTS = 64

interface Means {
  /** How many threads may work at once before it only costs time. */
  readonly processors: number
  readonly alarm: Alarm
  /** A call of this container has kept a thread waiting. */
  readonly strike: (container: number) => void
}

/**
 * Who receives the notifications: one thread at a time, the leader. Without it two threads race into receive and one blocks
 * there, for the kernel ignores O_NONBLOCK.
 *
 * Waking another thread for each call costs more than serving it (it wakes on the other processor, and so does the next
 * call). So the leader serves what it received, under an alarm for which one parked thread, the deputy, waits: if no call
 * was begun since the last one and the leader is not back, the deputy leads. A leader that knows that it will block passes the lead on before.
 *
 * When more calls wait than one, as many threads as there are processors share the lead: each holds it only while it
 * receives, and none has to be woken, for each comes back for the next call by itself. One that comes back while another one
 * receives waits for that with its processor: if it parked, both would soon be woken on the same processor, the other one idle.
 *
 * Each lead has a term of its own: a thread that comes back late must not take or free the lead of another.
 *
 * This is made for one thread, and knows whether that leads.
 */
export class Leadership {
  readonly #words: Int32Array
  readonly #lead: LeaderWord
  readonly #parking: ParkingLot
  readonly #activity: ThreadActivity
  readonly #processors: number
  readonly #alarm: Alarm
  readonly #strike: (container: number) => void
  /** Of the lead that this thread has. */
  #term: number | undefined

  constructor(words: Int32Array, workers: ThreadActivity, { processors, alarm, strike }: Means) {
    this.#words = words
    this.#lead = new LeaderWord(words, WORDS.lead)
    this.#parking = new ParkingLot(words.subarray(SEATS_AT))
    this.#activity = workers
    this.#processors = processors
    this.#alarm = alarm
    this.#strike = strike
  }

  /** Does this thread lead? It may be late, and another one does: `resume` tells. */
  get isOurs(): boolean {
    return this.#term !== undefined
  }

  /** Threads that are parked now, the deputy apart: none left means that the pool should grow. */
  get parked(): number {
    return this.#parking.parked
  }

  /** Counts what was posted to the threads. */
  get epoch(): number {
    return Atomics.load(this.#words, WORDS.epoch)
  }

  /** Takes the lead if nobody has it. */
  take(): boolean {
    return this.#takeFrom(FREE)
  }

  /** The leader waits for a call. */
  wait(): void {
    this.#lead.set(this.#term!, WAITING)
  }

  /** There is a call: the leader will soon share the lead, or serve. */
  receive(): void {
    this.#lead.set(this.#term!, RECEIVING)
  }

  /** The leader is about to serve a call of this container. @param time `now()` */
  serve(container: number, time: number): void {
    this.#activity.begin(container, time)
    this.#lead.set(this.#term!, SERVING)
    this.#begin(time)
  }

  /** This thread, which does not lead, is about to serve a call of this container. @param time `now()` */
  helpServe(container: number, time: number): void {
    this.#activity.come()
    this.#activity.begin(container, time)
    this.#begin(time)
  }

  /** The leader does something else for a moment. */
  stepDown(): void {
    this.serve(NO_CONTAINER, now())
  }

  /**
   * The leader is about to serve a call of this container and more calls wait: whoever comes back first shall lead.
   *
   * @param time `now()`
   */
  receiveTogether(container: number, time: number): void {
    this.#activity.begin(container, time)
    const term = this.#term!
    this.#term = undefined
    if (!this.#lead.change(term, RECEIVING, FREE)) return
    if (this.#activity.active < this.#processors) this.#parking.wakeOne()
    this.#begin(time)
  }

  /** Wakes a thread to be the deputy, if there is none. @returns false if there is none, and nobody to wake */
  callDeputy(): boolean {
    if (Atomics.load(this.#words, WORDS.deputy) !== 0) return true
    if (this.parked === 0) return false
    this.#parking.wakeOne()
    return true
  }

  /** Takes the lead as soon as nobody has it, if that is soon. */
  await(): boolean {
    for (let spins = 0; spins < RECEIVING_SPINS; spins++) {
      if (this.take()) return true
      if (spins > SPINS && this.#lead.state !== RECEIVING) return false
    }
    return false
  }

  /** The thread works: it has served its call, or is new. If it led, it goes on leading, unless the deputy does now. */
  rejoin(): void {
    this.#activity.come()
    if (this.#term === undefined || this.#lead.change(this.#term, SERVING, WAITING)) return
    this.#term = undefined
  }

  /** The thread will block or end: if it leads, somebody else shall. */
  handOver(): void {
    this.#activity.leave()
    const term = this.#term
    this.#term = undefined
    if (term === undefined || this.#lead.free(term)) this.offer()
  }

  /** If nobody leads, somebody who has nothing else to do shall. */
  offer(): void {
    if (!this.#isFree) return
    if (this.parked > 0) this.#parking.wakeOne()
    else this.#ring()
  }

  /** Blocks the thread until there may be something to do: the lead, or what was posted. It leads then if it can. */
  park(): void {
    this.#activity.leave()
    if (Atomics.compareExchange(this.#words, WORDS.deputy, 0, 1) === 0) this.#deputize()
    else {
      const { epoch } = this
      this.#parking.sit(() => this.#isFree || Atomics.load(this.#words, WORDS.deputy) === 0 || this.epoch !== epoch)
    }
    this.#activity.come()
    if (this.#term === undefined) this.take()
  }

  /**
   * Something was posted to all threads: each looks at it before it leads. Parked ones are woken for it once in a while only,
   * so that not too much is kept for them: afterwards others lead than before, whose code is not compiled yet.
   */
  wakeFollower(): void {
    if (Atomics.add(this.#words, WORDS.epoch, 1) % POSTS !== 0) return
    this.#parking.wakeAll()
    this.#ring()
  }

  /**
   * A call is begun. The alarm is put off once a millisecond at most, and goes off a little early then; when it did, the
   * deputy looks whether there was progress. It is not put off for ever.
   */
  #begin(time: number): void {
    Atomics.add(this.#words, WORDS.progress, 1)
    const ms = Math.trunc(time)
    const alarmed = Atomics.exchange(this.#words, WORDS.alarmed, ms)
    if (alarmed === ms) return
    if (alarmed === 0 || ms - Atomics.load(this.#words, WORDS.looked) < LOOK_MS) this.#alarm.set()
  }

  /** The deputy shall come at once. */
  #ring(): void {
    Atomics.store(this.#words, WORDS.rung, 1)
    this.#alarm.ring()
  }

  #deputize(): void {
    this.#watch()
    const late = Atomics.load(this.#words, WORDS.leader)
    const leads = this.#takeFrom(SERVING)
    if (leads && this.#activity.countOut(late)) this.#strikeFor(this.#activity.containerOf(late))
    Atomics.store(this.#words, WORDS.deputy, 0)
    // It will lead, now or if nobody else is faster: another one becomes the deputy.
    if (leads || this.#isFree) this.#parking.wakeOne()
  }

  /** Returns when nothing moves any more, or somebody rang. */
  #watch(): void {
    let seen = Atomics.load(this.#words, WORDS.progress)
    for (;;) {
      this.#alarm.wait()
      const time = now()
      Atomics.store(this.#words, WORDS.looked, Math.trunc(time))
      Atomics.store(this.#words, WORDS.alarmed, 0)
      if (Atomics.exchange(this.#words, WORDS.rung, 0) === 1) return
      const progress = Atomics.load(this.#words, WORDS.progress)
      const { state } = this.#lead
      const leader = Atomics.load(this.#words, WORDS.leader)
      const waits = state === WAITING || state === RECEIVING
      for (const container of this.#activity.countOutHanging(waits ? leader : undefined, time))
        this.#strikeFor(container)
      // A leader that only waits for a processor will be back: nobody else is any faster.
      const moves = progress !== seen || (state === SERVING && this.#activity.isBusy(leader))
      if (!moves && !waits) return
      seen = progress
      if (!waits) this.#alarm.set()
    }
  }

  #strikeFor(container: number): void {
    if (container !== NO_CONTAINER) this.#strike(container)
  }

  #takeFrom(state: number): boolean {
    const term = this.#lead.takeFrom(state)
    if (term === undefined) return false
    this.#term = term
    Atomics.store(this.#words, WORDS.leader, this.#activity.self)
    return true
  }

  get #isFree(): boolean {
    return this.#lead.state === FREE
  }
}
