import type { Tid } from '../../abi/brand.ts'
import { CancelRateLimit } from './cancel-rate-limit.ts'

/** For each container: whoever makes more calls at once has no more of them remembered. */
const PLACES = 16
const LOCK = 0
const TICKET = 1
const DUE = 2
const HEAD = 3
/** A place: what it is, whose turn it was, by which thread, and two numbers of 64 bits. */
const WORD = { state: 0, ticket: 1, tid: 2, key: 4, result: 6 } as const
const WORDS = 8
const AREA = HEAD + PLACES * WORDS
export const REPLY_CACHE_WORDS = AREA

/**
 * acting: its call is being served. answering: whatever was done is done, and the answer is under way. left: the act was
 * done, and its answer did not arrive.
 */
const STATE = { free: 0, acting: 1, answering: 2, left: 3 } as const
const WAIT_MS = 1000

/** What was done for a call, by a place in the table. */
export interface CachedReply {
  readonly at: number
  readonly ticket: number
}

/**
 * The acts of calls whose answers may get lost, in memory that the threads share. A container has places of its own: what
 * one does takes nothing from another.
 */
export class ReplyCache {
  readonly #words: Int32Array
  readonly #cancellations: CancelRateLimit

  /** @param words UNDELIVERED_WORDS for each container */
  constructor(words: Int32Array) {
    this.#words = words
    this.#cancellations = new CancelRateLimit(words)
  }

  /** Waits until no act is done for this thread: one that is was for a call that was cancelled, for it makes one at a time. */
  await(container: number, tid: Tid, mayBlock: () => void): void {
    const first = container * AREA + HEAD
    for (let at = first; at < first + PLACES * WORDS; at += WORDS) {
      if (!this.#is(at, STATE.acting) || this.#words[at + WORD.tid] !== tid) continue
      mayBlock()
      this.#hasEnded(at, STATE.acting)
    }
  }

  /** An act begins. @returns undefined if every place of the container has a call that is being served */
  begin(container: number, tid: Tid, key: bigint): CachedReply | undefined {
    return this.#locked(container, (area) => {
      const words = this.#words
      // One that is free, or else the oldest of those that nobody came back for.
      const rank = (at: number): number => (this.#is(at, STATE.free) ? -1 : words[at + WORD.ticket]!)
      const places = placesOf(area).filter((at) => !this.#isUnknown(at))
      const [at] = places.toSorted((a, b) => rank(a) - rank(b))
      if (at === undefined) return undefined
      const ticket = ++words[area + TICKET]!
      words[at + WORD.ticket] = ticket
      words[at + WORD.tid] = tid
      this.#store(at + WORD.key, key)
      Atomics.store(words, at + WORD.state, STATE.acting)
      return { at, ticket }
    })
  }

  /**
   * What was done for an earlier call with the same key, whose answer did not arrive; waits as long as that is not known.
   * The result is not to be had a second time.
   */
  take(container: number, place: CachedReply, key: bigint, mayBlock: () => void): bigint | undefined {
    for (;;) {
      const found = this.#locked(container, (area) => this.#latest(area, place, key))
      if (found === undefined) return undefined
      if (typeof found === 'bigint') return found
      mayBlock()
      if (!this.#hasEnded(found.at, found.state)) return undefined
    }
  }

  /** The act of a place is over: from here on its answer may arrive, and the caller makes its next call at once. */
  answering({ at }: CachedReply): void {
    this.#set(at, STATE.answering)
  }

  /**
   * The call of a place is over. Once its caller has an answer, all that was left for such a call is forgotten.
   *
   * @param result of its act, if it did something
   */
  end(
    container: number,
    { at, ticket }: CachedReply,
    key: bigint,
    delivered: boolean,
    result: bigint | undefined,
  ): void {
    this.#locked(container, (area) => {
      const words = this.#words
      if (result !== undefined) this.#store(at + WORD.result, result)
      if (delivered) for (const left of this.#left(area, ticket, key)) words[left + WORD.state] = STATE.free
      if (delivered) this.#cancellations.pay(area + DUE)
      this.#set(at, delivered || result === undefined ? STATE.free : STATE.left)
    })
  }

  /** A call of this container was cancelled. @returns for how many milliseconds its place in the engine must be kept */
  cancelled(container: number): number {
    return this.#cancellations.count(container * AREA + DUE)
  }

  /** A new container has this number. */
  forget(container: number): void {
    this.#words.fill(0, container * AREA, (container + 1) * AREA)
  }

  /** @returns what was left last; or the place of a call before, of which it is not known yet */
  #latest(
    area: number,
    { ticket }: CachedReply,
    key: bigint,
  ): bigint | { readonly at: number; readonly state: number } | undefined {
    const unknown = this.#before(area, ticket, key, (at) => this.#isUnknown(at))[0]
    if (unknown !== undefined) return { at: unknown, state: Atomics.load(this.#words, unknown + WORD.state) }
    const last = this.#left(area, ticket, key).at(-1)
    if (last === undefined) return undefined
    this.#words[last + WORD.state] = STATE.free
    return this.#load(last + WORD.result)
  }

  #hasEnded(at: number, state: number): boolean {
    return Atomics.wait(this.#words, at + WORD.state, state, WAIT_MS) !== 'timed-out'
  }

  /** The oldest first. */
  #left(area: number, ticket: number, key: bigint): readonly number[] {
    const words = this.#words
    const left = this.#before(area, ticket, key, (at) => this.#is(at, STATE.left))
    return left.toSorted((a, b) => words[a + WORD.ticket]! - words[b + WORD.ticket]!)
  }

  #before(area: number, ticket: number, key: bigint, isIt: (at: number) => boolean): readonly number[] {
    const words = this.#words
    return placesOf(area).filter(
      (at) => isIt(at) && words[at + WORD.ticket]! < ticket && this.#load(at + WORD.key) === key,
    )
  }

  #is(at: number, state: number): boolean {
    return Atomics.load(this.#words, at + WORD.state) === state
  }

  /** Whether its answer arrives. */
  #isUnknown(at: number): boolean {
    return this.#is(at, STATE.acting) || this.#is(at, STATE.answering)
  }

  #set(at: number, state: number): void {
    Atomics.store(this.#words, at + WORD.state, state)
    Atomics.notify(this.#words, at + WORD.state)
  }

  #load(at: number): bigint {
    return (BigInt(this.#words[at + 1]! >>> 0) << 32n) | BigInt(this.#words[at]! >>> 0)
  }

  #store(at: number, value: bigint): void {
    this.#words[at] = Number(BigInt.asIntN(32, value))
    this.#words[at + 1] = Number(BigInt.asIntN(32, value >> 32n))
  }

  /** Held for microseconds, and by nobody who could block meanwhile. */
  #locked<T>(container: number, action: (area: number) => T): T {
    const area = container * AREA
    while (Atomics.compareExchange(this.#words, area + LOCK, 0, 1) !== 0) Atomics.wait(this.#words, area + LOCK, 1, 1)
    try {
      return action(area)
    } finally {
      Atomics.store(this.#words, area + LOCK, 0)
      Atomics.notify(this.#words, area + LOCK)
    }
  }
}

const placesOf = (area: number): readonly number[] =>
  Array.from({ length: PLACES }, (_, index) => area + HEAD + index * WORDS)
