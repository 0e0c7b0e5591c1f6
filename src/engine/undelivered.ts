import type { Tid } from '../abi/brand.ts'

/** For each container: whoever makes more calls at once has no more of them remembered. */
const PLACES = 16
const LOCK = 0
const TICKET = 1
const HEAD = 2
/** A place: what it is, whose turn it was, by which thread, and two numbers of 64 bits. */
const WORD = { state: 0, ticket: 1, tid: 2, key: 4, result: 6 } as const
const WORDS = 8
const AREA = HEAD + PLACES * WORDS
export const UNDELIVERED_WORDS = AREA

/** acting: its call is being served. left: the act was done, and its answer did not arrive. */
const STATE = { free: 0, acting: 1, left: 2 } as const
const WAIT_MS = 1000

/** What was done for a call, by a place in the table. */
export interface Place {
  readonly at: number
  readonly ticket: number
}

/**
 * The acts of calls whose answers may get lost, in memory that the threads share. A container has places of its own: what
 * one does takes nothing from another.
 */
export class Undelivered {
  readonly #words: Int32Array

  /** @param words UNDELIVERED_WORDS for each container */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** Waits until no call of this thread is being served: one that is was cancelled, for a thread makes one at a time. */
  await(container: number, tid: Tid, mayBlock: () => void): void {
    for (;;) {
      const busy = this.#locked(container, (area) =>
        placesOf(area).find((at) => this.#is(at, STATE.acting) && this.#words[at + WORD.tid] === tid),
      )
      if (busy === undefined) return
      mayBlock()
      if (!this.#hasEnded(busy)) return
    }
  }

  /** An act begins. @returns undefined if every place of the container has a call that is being served */
  begin(container: number, tid: Tid, key: bigint): Place | undefined {
    return this.#locked(container, (area) => {
      const words = this.#words
      // One that is free, or else the oldest of those that nobody came back for.
      const rank = (at: number): number => (this.#is(at, STATE.free) ? -1 : words[at + WORD.ticket]!)
      const places = placesOf(area).filter((at) => !this.#is(at, STATE.acting))
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
  take(container: number, place: Place, key: bigint, mayBlock: () => void): bigint | undefined {
    for (;;) {
      const found = this.#locked(container, (area) => this.#latest(area, place, key))
      if (found === undefined) return undefined
      if (typeof found === 'bigint') return found
      mayBlock()
      if (!this.#hasEnded(found.at)) return undefined
    }
  }

  /**
   * The call of a place is over. Once its caller has an answer, all that was left for such a call is forgotten.
   *
   * @param result of its act, if it did something
   */
  end(container: number, { at, ticket }: Place, key: bigint, delivered: boolean, result: bigint | undefined): void {
    this.#locked(container, (area) => {
      const words = this.#words
      if (result !== undefined) this.#store(at + WORD.result, result)
      if (delivered) for (const left of this.#left(area, ticket, key)) words[left + WORD.state] = STATE.free
      Atomics.store(words, at + WORD.state, delivered || result === undefined ? STATE.free : STATE.left)
      Atomics.notify(words, at + WORD.state)
    })
  }

  /** A new container has this number. */
  forget(container: number): void {
    this.#words.fill(0, container * AREA, (container + 1) * AREA)
  }

  /** @returns what was left last; or the place of a call before, of which it is not known yet */
  #latest(area: number, { ticket }: Place, key: bigint): bigint | { readonly at: number } | undefined {
    const acting = this.#before(area, ticket, key).find((at) => this.#is(at, STATE.acting))
    if (acting !== undefined) return { at: acting }
    const last = this.#left(area, ticket, key).at(-1)
    if (last === undefined) return undefined
    this.#words[last + WORD.state] = STATE.free
    return this.#load(last + WORD.result)
  }

  #hasEnded(at: number): boolean {
    return Atomics.wait(this.#words, at + WORD.state, STATE.acting, WAIT_MS) !== 'timed-out'
  }

  /** The oldest first. */
  #left(area: number, ticket: number, key: bigint): readonly number[] {
    const words = this.#words
    const left = this.#before(area, ticket, key).filter((at) => this.#is(at, STATE.left))
    return left.toSorted((a, b) => words[a + WORD.ticket]! - words[b + WORD.ticket]!)
  }

  #before(area: number, ticket: number, key: bigint): readonly number[] {
    const words = this.#words
    return placesOf(area).filter((at) => words[at + WORD.ticket]! < ticket && this.#load(at + WORD.key) === key)
  }

  #is(at: number, state: number): boolean {
    return this.#words[at + WORD.state] === state
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
