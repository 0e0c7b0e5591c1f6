import type { Tid } from '../../abi/brand.ts'
import { Locks } from '../../shared/lock.ts'
import { RateLimit } from '../../shared/rate-limit.ts'
import { load64, setAndWake, store64, struct, waitWhile } from '../../shared/words.ts'

/** The most calls at once that are remembered of one container. */
const PLACES = 16
/** state: as in PLACE. ticket: a number that grows with each act of the container. tid: the thread whose call it is. */
const [WORD, WORDS] = struct({ state: 1, ticket: 1, tid: 2, key: 2, result: 2 })
/** lock: as in `Locks`. ticket: the last one that was given. due: as in `RateLimit`. */
const [AREA, AREA_WORDS] = struct({ lock: 1, ticket: 1, due: 1, places: PLACES * WORDS })
export const REPLY_CACHE_WORDS = AREA_WORDS

/**
 * Of calls that signals have cancelled while they were served. A cancelled call costs the container nothing and us as
 * much as any other. So beyond a rate, and beyond the number of calls that were answered, each keeps its place among
 * the calls in flight for a time, and the container waits for nobody but itself. A call that is received is served at
 * once: otherwise a timer could cancel every one. One in 2 ms takes less of the engine than calls that are answered,
 * 100 at once cost a container nothing, and it has no more than 256 in flight by any configuration.
 */
const CANCELLATIONS = { unit: 2, burst: 100, longest: 100 + 256 }

/**
 * acting: the call is being served. answering: the act is over, and the answer is on its way. left: the act was done,
 * but its answer did not arrive.
 *
 *   free -> acting        ReplyCache.begin()
 *   left -> acting        ReplyCache.begin(): no place is free, and this is the oldest that is left
 *   acting -> answering   ReplyCache.answering()
 *   acting -> free        ReplyCache.end(): the call had gone before its act
 *   answering -> free     ReplyCache.end(): the answer arrived, or the act did nothing
 *   answering -> left     ReplyCache.end(): the act was done, and the answer did not arrive
 *   left -> free          ReplyCache.take(): the call that comes again has the result
 *   left -> free          ReplyCache.end(): a later call with the same key has its answer
 */
const PLACE = { free: 0, acting: 1, answering: 2, left: 3 } as const
const WAIT_MS = 1000

/** The place of one act in the table. */
export interface CachedReply {
  readonly at: number
  readonly ticket: number
}

/**
 * The acts of calls whose answers may get lost, in memory that the threads share. Each container has its own places, so
 * that it takes nothing from others.
 *
 * Invariant: any thread may call everything. A place that is `acting` or `answering` belongs to the thread that began
 * it; only that thread says that it is over. Everything else of a container changes under its lock, which threads hold
 * only for microseconds and never while they could block.
 */
export class ReplyCache {
  readonly #words: Int32Array
  readonly #locks: Locks
  readonly #cancellations: RateLimit

  /** @param words REPLY_CACHE_WORDS for each container */
  constructor(words: Int32Array) {
    this.#words = words
    this.#locks = new Locks(words)
    this.#cancellations = new RateLimit(words, CANCELLATIONS)
  }

  /**
   * Waits while another engine thread still acts for caller `tid`. A thread makes one call at a time, so such an act
   * belongs to a call that a signal has cancelled.
   */
  await(container: number, tid: Tid, mayBlock: () => void): void {
    const first = container * AREA_WORDS + AREA.places
    for (let at = first; at < first + PLACES * WORDS; at += WORDS) {
      if (!this.#is(at, PLACE.acting) || this.#words[at + WORD.tid] !== tid) continue
      mayBlock()
      this.#hasEnded(at, PLACE.acting)
    }
  }

  /** Takes a place for an act that begins. @returns undefined if calls in flight have all places of the container */
  begin(container: number, tid: Tid, key: bigint): CachedReply | undefined {
    return this.#locked(container, (area) => {
      const words = this.#words
      // Prefers a free place; otherwise the oldest one whose call was not repeated.
      const rank = (at: number): number => (this.#is(at, PLACE.free) ? -1 : words[at + WORD.ticket]!)
      const places = placesOf(area).filter((at) => !this.#isUnknown(at))
      const [at] = places.toSorted((a, b) => rank(a) - rank(b))
      if (at === undefined) return undefined
      const ticket = ++words[area + AREA.ticket]!
      words[at + WORD.ticket] = ticket
      words[at + WORD.tid] = tid
      store64(words, at + WORD.key, key)
      Atomics.store(words, at + WORD.state, PLACE.acting)
      return { at, ticket }
    })
  }

  /**
   * Returns the result of an earlier call with the same key whose answer did not arrive. Waits while it is not known
   * whether there is such a call. Each result is given once.
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

  /** The act of a place is over: from here on its answer may arrive, and the caller may make its next call at once. */
  answering({ at }: CachedReply): void {
    this.#set(at, PLACE.answering)
  }

  /**
   * The call of a place is over. Once its caller has an answer, all results left for the same call are forgotten.
   *
   * @param result the result of the act, if it did something
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
      if (result !== undefined) store64(words, at + WORD.result, result)
      if (delivered) for (const left of this.#left(area, ticket, key)) words[left + WORD.state] = PLACE.free
      if (delivered) this.#cancellations.giveBack(area + AREA.due)
      this.#set(at, delivered || result === undefined ? PLACE.free : PLACE.left)
    })
  }

  /** A call of this container was cancelled. @returns for how many milliseconds its place in the engine must be kept */
  cancelled(container: number, ms?: number): number {
    return this.#cancellations.take(container * AREA_WORDS + AREA.due, 1, ms)
  }

  /** Another container has this number now. */
  forget(container: number): void {
    this.#locked(container, (area) => this.#words.fill(0, area + AREA.ticket, area + AREA_WORDS))
  }

  /**
   * @returns the newest left result, or the place of an earlier call whose outcome is not known yet
   */
  #latest(
    area: number,
    { ticket }: CachedReply,
    key: bigint,
  ): bigint | { readonly at: number; readonly state: number } | undefined {
    const unknown = this.#before(area, ticket, key, (at) => this.#isUnknown(at))[0]
    if (unknown !== undefined) return { at: unknown, state: Atomics.load(this.#words, unknown + WORD.state) }
    const last = this.#left(area, ticket, key).at(-1)
    if (last === undefined) return undefined
    this.#words[last + WORD.state] = PLACE.free
    return load64(this.#words, last + WORD.result)
  }

  /** Waits until a place changes its state. @returns false if it still has this state after a second */
  #hasEnded(at: number, state: number): boolean {
    return waitWhile(this.#words, at + WORD.state, state, WAIT_MS)
  }

  /** The left places of earlier calls with this key, the oldest first. */
  #left(area: number, ticket: number, key: bigint): readonly number[] {
    const words = this.#words
    const left = this.#before(area, ticket, key, (at) => this.#is(at, PLACE.left))
    return left.toSorted((a, b) => words[a + WORD.ticket]! - words[b + WORD.ticket]!)
  }

  #before(area: number, ticket: number, key: bigint, isIt: (at: number) => boolean): readonly number[] {
    const words = this.#words
    return placesOf(area).filter(
      (at) => isIt(at) && words[at + WORD.ticket]! < ticket && load64(words, at + WORD.key) === key,
    )
  }

  #is(at: number, state: number): boolean {
    return Atomics.load(this.#words, at + WORD.state) === state
  }

  /** Is it still unknown whether the answer arrives? */
  #isUnknown(at: number): boolean {
    return this.#is(at, PLACE.acting) || this.#is(at, PLACE.answering)
  }

  #set(at: number, state: number): void {
    setAndWake(this.#words, at + WORD.state, state)
  }

  #locked<T>(container: number, action: (area: number) => T): T {
    const area = container * AREA_WORDS
    return this.#locks.during(area + AREA.lock, () => action(area))
  }
}

const placesOf = (area: number): readonly number[] =>
  Array.from({ length: PLACES }, (_, index) => area + AREA.places + index * WORDS)
