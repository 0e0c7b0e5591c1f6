import type { Alarm } from '../kernel/timer.ts'

const WORDS = { lead: 0, wake: 16, parked: 32, deputy: 48, serving: 64, epoch: 80 } as const
export const LEAD_WORDS = 96

const FREE = 0
const WAITING = 1
const SERVING = 2

/**
 * Who receives the notifications: one thread at a time, the leader. Without it two threads race into receive and one blocks
 * there, for the kernel ignores O_NONBLOCK.
 *
 * Waking another thread for each call costs more than serving it (it wakes on the other processor, and so does the next
 * call). So the leader serves what it received, and sets an alarm for which one parked thread, the deputy, waits: if the
 * leader is not back by then, the deputy leads. A leader that knows that it will block passes the lead on before.
 */
export class Lead {
  readonly #words: Int32Array
  readonly #alarm: Alarm

  constructor(words: Int32Array, alarm: Alarm) {
    this.#words = words
    this.#alarm = alarm
  }

  /** Threads that are parked now, the deputy apart: none left means that the pool should grow. */
  get parked(): number {
    return Atomics.load(this.#words, WORDS.parked)
  }

  /** Counts what was posted to the threads. */
  get epoch(): number {
    return Atomics.load(this.#words, WORDS.epoch)
  }

  /** Takes the lead if nobody has it. */
  take(): boolean {
    return this.#change(FREE, WAITING)
  }

  /** The leader is about to serve a call of this container. */
  serve(container: number): void {
    Atomics.store(this.#words, WORDS.serving, container)
    Atomics.store(this.#words, WORDS.lead, SERVING)
    this.#alarm.set()
  }

  /** The leader has served its call. @returns false if the deputy leads now */
  resume(): boolean {
    return this.#change(SERVING, WAITING)
  }

  /** The leader will block or end: somebody else shall lead. @returns false if the deputy does already */
  pass(): boolean {
    if (!this.#change(SERVING, FREE) && !this.#change(WAITING, FREE)) return false
    if (this.parked > 0) this.#wakeOne()
    else this.#alarm.ring()
    return true
  }

  /**
   * Blocks the thread until there may be something to do: the lead, or what was posted.
   *
   * @returns the container whose call kept the leader too long, if this thread leads now because of it
   */
  park(): number | undefined {
    if (Atomics.compareExchange(this.#words, WORDS.deputy, 0, 1) === 0) return this.#deputize()
    const seen = Atomics.load(this.#words, WORDS.wake)
    if (Atomics.load(this.#words, WORDS.lead) === FREE || Atomics.load(this.#words, WORDS.deputy) === 0)
      return undefined
    Atomics.add(this.#words, WORDS.parked, 1)
    Atomics.wait(this.#words, WORDS.wake, seen)
    Atomics.sub(this.#words, WORDS.parked, 1)
    return undefined
  }

  /** Makes every parked thread look at what was posted to it. */
  announce(): void {
    Atomics.add(this.#words, WORDS.epoch, 1)
    Atomics.add(this.#words, WORDS.wake, 1)
    Atomics.notify(this.#words, WORDS.wake)
    this.#alarm.ring()
  }

  #deputize(): number | undefined {
    this.#alarm.wait()
    const container = Atomics.load(this.#words, WORDS.serving)
    const leads = this.#change(SERVING, WAITING)
    Atomics.store(this.#words, WORDS.deputy, 0)
    if (leads) this.#wakeOne()
    return leads ? container : undefined
  }

  #wakeOne(): void {
    Atomics.add(this.#words, WORDS.wake, 1)
    Atomics.notify(this.#words, WORDS.wake, 1)
  }

  #change(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, WORDS.lead, from, to) === from
  }
}
