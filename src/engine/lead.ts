import type { Tid } from '../abi/brand.ts'
import type { Alarm } from '../kernel/timer.ts'
import { SEAT_WORDS, Seats } from './seats.ts'

/** Each in a cache line of its own. */
const WORDS = {
  lead: 0,
  deputy: 16,
  serving: 32,
  epoch: 48,
  leader: 64,
  active: 80,
  progress: 96,
  alarmed: 112,
  rung: 128,
} as const
const SEATS_AT = 144
export const LEAD_WORDS = SEATS_AT + SEAT_WORDS

/** How often a thread asks for the lead again before it parks, if the leader waits for a call, or receives one. */
const SPINS = 500
const RECEIVING_SPINS = 2000

const POSTS = 64

/** The lead word is a state and the term in which somebody has it. */
const FREE = 0
const WAITING = 1
const SERVING = 2
const RECEIVING = 3
const STATE_BITS = 2
const STATE_MASK = 3
/** Terms come round after this many, long after anybody still believes in an old one. */
const TERMS = 1 << 28

const word = (term: number, state: number): number => (term << STATE_BITS) | state
const after = (lead: number): number => ((lead >> STATE_BITS) + 1) % TERMS

interface Threads {
  /** The one that this is made for. */
  readonly self: Tid
  /** Has a thread work, or does it wait for something? */
  readonly isRunning: (thread: Tid) => boolean
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
 */
export class Lead {
  readonly #words: Int32Array
  readonly #seats: Seats
  readonly #processors: number
  readonly #alarm: Alarm
  readonly #self: Tid
  readonly #isRunning: Threads['isRunning']

  constructor(words: Int32Array, processors: number, alarm: Alarm, { self, isRunning }: Threads) {
    this.#words = words
    this.#seats = new Seats(words.subarray(SEATS_AT))
    this.#processors = processors
    this.#alarm = alarm
    this.#self = self
    this.#isRunning = isRunning
  }

  /** Threads that are parked now, the deputy apart: none left means that the pool should grow. */
  get parked(): number {
    return this.#seats.parked
  }

  /** Counts what was posted to the threads. */
  get epoch(): number {
    return Atomics.load(this.#words, WORDS.epoch)
  }

  /** Takes the lead if nobody has it. @returns its term, or undefined */
  take(): number | undefined {
    const lead = Atomics.load(this.#words, WORDS.lead)
    const term = after(lead)
    return (lead & STATE_MASK) === FREE && this.#change(lead, word(term, WAITING)) ? term : undefined
  }

  /** The leader waits for a call. */
  wait(term: number): void {
    Atomics.store(this.#words, WORDS.lead, word(term, WAITING))
  }

  /** There is a call: the leader will soon share the lead, or serve. */
  receive(term: number): void {
    Atomics.store(this.#words, WORDS.lead, word(term, RECEIVING))
  }

  /** The leader is about to serve a call of this container. @param time `now()` */
  serve(term: number, container: number, time: number): void {
    Atomics.store(this.#words, WORDS.serving, container)
    Atomics.store(this.#words, WORDS.leader, this.#self)
    Atomics.store(this.#words, WORDS.lead, word(term, SERVING))
    this.#begin(time)
  }

  /** The leader is about to serve a call and more calls wait: whoever comes back first shall lead. @param time `now()` */
  share(term: number, time: number): void {
    if (!this.#change(word(term, RECEIVING), word(term, FREE))) return
    if (Atomics.load(this.#words, WORDS.active) < this.#processors) this.#seats.wakeOne()
    this.#begin(time)
  }

  /** Wakes a thread to be the deputy, if there is none. @returns false if there is none, and nobody to wake */
  callDeputy(): boolean {
    if (Atomics.load(this.#words, WORDS.deputy) !== 0) return true
    if (this.parked === 0) return false
    this.#seats.wakeOne()
    return true
  }

  /** Takes the lead as soon as nobody has it, if that is soon. @returns its term, or undefined */
  await(): number | undefined {
    for (let spins = 0; spins < RECEIVING_SPINS; spins++) {
      const term = this.take()
      if (term !== undefined) return term
      if (spins > SPINS && (Atomics.load(this.#words, WORDS.lead) & STATE_MASK) !== RECEIVING) return undefined
    }
    return undefined
  }

  /** The thread works from now on (1), or waits for what may take long (-1): others are woken in its place. */
  countActive(change: 1 | -1): void {
    Atomics.add(this.#words, WORDS.active, change)
  }

  /** The leader has served its call. @returns false if the deputy leads now */
  resume(term: number): boolean {
    return this.#change(word(term, SERVING), word(term, WAITING))
  }

  /** The leader will block or end: somebody else shall lead. @returns false if the deputy does already */
  pass(term: number): boolean {
    const lead = Atomics.load(this.#words, WORDS.lead)
    const isOurs = lead >> STATE_BITS === term && (lead & STATE_MASK) !== FREE
    if (!isOurs || !this.#change(lead, word(term, FREE))) return false
    this.offer()
    return true
  }

  /** If nobody leads, somebody who has nothing else to do shall. */
  offer(): void {
    if (!this.#isFree) return
    if (this.parked > 0) this.#seats.wakeOne()
    else this.#ring()
  }

  /**
   * Blocks the thread until there may be something to do: the lead, or what was posted.
   *
   * @returns the term and the container whose call kept the leader too long, if this thread leads now because of it
   */
  park(): { readonly term: number; readonly slow: number } | undefined {
    if (Atomics.compareExchange(this.#words, WORDS.deputy, 0, 1) === 0) return this.#deputize()
    const { epoch } = this
    this.#seats.sit(() => this.#isFree || Atomics.load(this.#words, WORDS.deputy) === 0 || this.epoch !== epoch)
    return undefined
  }

  /**
   * Something was posted to all threads: each looks at it before it leads. Parked ones are woken for it once in a while only,
   * so that not too much is kept for them: afterwards others lead than before, whose code is not compiled yet.
   */
  announce(): void {
    if (Atomics.add(this.#words, WORDS.epoch, 1) % POSTS !== 0) return
    this.#seats.wakeAll()
    this.#ring()
  }

  /**
   * A call is begun. The alarm is put off once a millisecond at most, and goes off a little early then; when it did, the
   * deputy looks whether there was progress.
   */
  #begin(time: number): void {
    Atomics.add(this.#words, WORDS.progress, 1)
    const ms = Math.trunc(time)
    if (Atomics.exchange(this.#words, WORDS.alarmed, ms) !== ms) this.#alarm.set()
  }

  /** The deputy shall come at once. */
  #ring(): void {
    Atomics.store(this.#words, WORDS.rung, 1)
    this.#alarm.ring()
  }

  #deputize(): { readonly term: number; readonly slow: number } | undefined {
    this.#watch()
    const lead = Atomics.load(this.#words, WORDS.lead)
    const slow = Atomics.load(this.#words, WORDS.serving)
    const term = after(lead)
    const leads = (lead & STATE_MASK) === SERVING && this.#change(lead, word(term, WAITING))
    Atomics.store(this.#words, WORDS.deputy, 0)
    // It will lead, now or if nobody else is faster: another one becomes the deputy.
    if (leads || (lead & STATE_MASK) === FREE) this.#seats.wakeOne()
    return leads ? { term, slow } : undefined
  }

  /** Returns when nothing moves any more, or somebody rang. */
  #watch(): void {
    let seen = Atomics.load(this.#words, WORDS.progress)
    for (;;) {
      this.#alarm.wait()
      Atomics.store(this.#words, WORDS.alarmed, 0)
      if (Atomics.exchange(this.#words, WORDS.rung, 0) === 1) return
      const progress = Atomics.load(this.#words, WORDS.progress)
      // A leader that only waits for a processor will be back: nobody else is any faster.
      const moves = progress !== seen || this.#isBusy()
      const state = Atomics.load(this.#words, WORDS.lead) & STATE_MASK
      const waits = state === WAITING || state === RECEIVING
      if (!moves && !waits) return
      seen = progress
      if (!waits) this.#alarm.set()
    }
  }

  get #isFree(): boolean {
    return (Atomics.load(this.#words, WORDS.lead) & STATE_MASK) === FREE
  }

  #isBusy(): boolean {
    const serves = (Atomics.load(this.#words, WORDS.lead) & STATE_MASK) === SERVING
    return serves && this.#isRunning(Atomics.load(this.#words, WORDS.leader) as Tid)
  }

  #change(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, WORDS.lead, from, to) === from
  }
}
