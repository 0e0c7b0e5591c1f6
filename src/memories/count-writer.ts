import {
  type CallRecord,
  encodeArguments,
  encodeRecord,
  forgetArguments,
  isRefusal,
  type RecordedArguments,
  verdictIndex,
} from '../calls/record.ts'
import type { ArgumentMode } from '../policy/config.ts'
import {
  BOUNDS,
  callKey,
  countsPlace,
  HEAD_SIZE,
  HEAD_WORD,
  KIND_SIZE,
  KIND_WORD,
  KINDS,
  OTHERS,
  REFUSAL_HEAD,
  REFUSAL_SIZE,
  REFUSAL_WORD,
  REFUSALS,
  REFUSALS_AT,
  spreadKey,
  USED_WORDS,
} from './counts-layout.ts'

/** How many places are searched for a refusal of the same kind, or for one that makes room. */
const PROBES = 8
/** The offset of the time of a refusal. */
const REFUSAL_TIME = REFUSAL_HEAD + 48
const TENTHS = 10
const WORD = 2 ** 32

/**
 * Counts calls by container and kind, and keeps the last refusal of each kind. If there are more kinds than places,
 * kinds with the same call and reason make room first. So a flood of different arguments erases only its own kinds.
 * Nothing is counted for a container whose place another container has by now.
 *
 * Invariant: counters only grow, by atomic adds; a key is set once, by an atomic exchange. Only the thread that has set
 * a refusal's `writer` writes it; another thread that comes meanwhile drops its own refusal. Preconditions: any number
 * of threads may count at once; none waits for another.
 */
export class CountWriter {
  readonly #words: Int32Array
  readonly #view: DataView

  constructor(memory: ArrayBuffer) {
    this.#words = new Int32Array(memory)
    this.#view = new DataView(memory)
  }

  count(record: CallRecord, args: RecordedArguments): void {
    const place = countsPlace(record.container)
    const words = this.#words
    if (record.serial === 0 || Atomics.load(words, (place >> 2) + HEAD_WORD.serial) !== record.serial) return
    const key = callKey(record)
    this.#add(this.#counter(place, key, record), record.microseconds)
    if (isRefusal(record)) this.#keep(place, key, record, args)
  }

  /** Finds the counter of a kind, or takes a free one. @returns its first word */
  #counter(place: number, key: number, { verdict }: CallRecord): number {
    const words = this.#words
    const first = (place + HEAD_SIZE) >> 2
    let index = spreadKey(key) % (KINDS - OTHERS)
    for (let probe = OTHERS; probe < KINDS; probe++) {
      const at = first + ((OTHERS + index) * KIND_SIZE) / 4
      const there = words[at] || Atomics.compareExchange(words, at + KIND_WORD.key, 0, key)
      if (there === 0 || there === key) return this.#use(place, HEAD_WORD.usedKinds, OTHERS + index, at)
      index = (index + 1) % (KINDS - OTHERS)
    }
    const other = verdictIndex.get(verdict)!
    return this.#use(place, HEAD_WORD.usedKinds, other, first + (other * KIND_SIZE) / 4)
  }

  /** Tells readers that a place is used, each time: an engine may have ended before it did so. @returns `at` */
  #use(place: number, bits: number, index: number, at: number): number {
    const word = (place >> 2) + bits + (index >> 5)
    const bit = 1 << (index & 31)
    if ((this.#words[word]! & bit) === 0) Atomics.or(this.#words, word, bit)
    return at
  }

  #add(counter: number, microseconds: number): void {
    let bucket = 0
    while (bucket < BOUNDS.length && microseconds > BOUNDS[bucket]!) bucket++
    this.#add64(counter + KIND_WORD.buckets + 2 * bucket, 1)
    this.#add64(counter + KIND_WORD.sum, Math.round(microseconds * TENTHS))
  }

  /** Adds to a 64-bit number. A reader may see it without the carry for an instant, and reads again. */
  #add64(at: number, number: number): void {
    const low = number % WORD
    const before = Atomics.add(this.#words, at, low | 0) >>> 0
    const carry = Math.floor(number / WORD) + (before + low >= WORD ? 1 : 0)
    if (carry > 0) Atomics.add(this.#words, at + 1, carry)
  }

  #keep(place: number, key: number, record: CallRecord, args: RecordedArguments): void {
    const at = this.#refusal(place, key, record)
    const words = this.#words
    const first = at >> 2
    if (Atomics.compareExchange(words, first + REFUSAL_WORD.writer, 0, 1) !== 0) return
    Atomics.add(words, first + REFUSAL_WORD.version, 1)
    // On arm64 only a load keeps the plain stores that follow behind the mark.
    Atomics.load(words, first + REFUSAL_WORD.version)
    if (!this.#isOf(first, key, record)) this.#begin(place, first, key, record)
    this.#add64(first + REFUSAL_WORD.count, 1)
    encodeRecord(this.#view, at + REFUSAL_HEAD, record)
    encodeArguments(this.#view, words, at + REFUSAL_HEAD, args)
    Atomics.add(words, first + REFUSAL_WORD.version, 1)
    words[(place >> 2) + HEAD_WORD.last] = 1 + (at - place - REFUSALS_AT) / REFUSAL_SIZE
    Atomics.store(words, first + REFUSAL_WORD.writer, 0)
  }

  #isOf(first: number, key: number, { a, b }: CallRecord): boolean {
    const words = this.#words
    return (
      words[first + REFUSAL_WORD.key] === key &&
      words[first + REFUSAL_WORD.a] === (a | 0) &&
      words[first + REFUSAL_WORD.b] === (b | 0)
    )
  }

  #begin(place: number, first: number, key: number, { a, b, time }: CallRecord): void {
    const words = this.#words
    const isFree = words[first + REFUSAL_WORD.key] === 0
    Atomics.add(words, (place >> 2) + (isFree ? HEAD_WORD.refusals : HEAD_WORD.dropped), 1)
    words[first + REFUSAL_WORD.key] = key
    words[first + REFUSAL_WORD.a] = a
    words[first + REFUSAL_WORD.b] = b
    words[first + REFUSAL_WORD.count] = 0
    words[first + REFUSAL_WORD.count + 1] = 0
    this.#view.setFloat64(4 * (first + REFUSAL_WORD.first), time, true)
  }

  /** Finds the place for a refusal: the one of its kind, a free one, or one that makes room. @returns its offset */
  #refusal(place: number, key: number, record: CallRecord): number {
    const words = this.#words
    const start = spreadKey(key ^ Math.imul(record.a, 31) ^ Math.imul(record.b, 17))
    for (let probe = 0; probe < PROBES; probe++) {
      const index = (start + probe) % REFUSALS
      const at = place + REFUSALS_AT + index * REFUSAL_SIZE
      if (words[(at >> 2) + REFUSAL_WORD.key] === 0 || this.#isOf(at >> 2, key, record))
        return this.#use(place, HEAD_WORD.usedRefusals, index, at)
    }
    return this.#oldest(place, start, key) || this.#least(place, start)
  }

  /** Returns the oldest of the searched places with a call and reason; 0 if there is none. */
  #oldest(place: number, start: number, key: number): number {
    let oldest = 0
    let oldestTime = Number.POSITIVE_INFINITY
    for (let probe = 0; probe < PROBES; probe++) {
      const at = place + REFUSALS_AT + ((start + probe) % REFUSALS) * REFUSAL_SIZE
      if (this.#words[(at >> 2) + REFUSAL_WORD.key] !== key) continue
      const time = this.#view.getFloat64(at + REFUSAL_TIME, true)
      if (time >= oldestTime) continue
      oldest = at
      oldestTime = time
    }
    return oldest
  }

  /** Returns the oldest of the searched places with the most frequent call and reason. */
  #least(place: number, start: number): number {
    let least = 0
    let leastShare = 0
    let leastTime = 0
    for (let probe = 0; probe < PROBES; probe++) {
      const at = place + REFUSALS_AT + ((start + probe) % REFUSALS) * REFUSAL_SIZE
      const share = this.#share(place, start, this.#words[(at >> 2) + REFUSAL_WORD.key]!)
      const time = this.#view.getFloat64(at + REFUSAL_TIME, true)
      if (share < leastShare || (share === leastShare && time >= leastTime)) continue
      least = at
      leastShare = share
      leastTime = time
    }
    return least
  }

  /** Returns how many of the searched places have this call and reason. */
  #share(place: number, start: number, key: number): number {
    let share = 0
    for (let probe = 0; probe < PROBES; probe++) {
      const at = place + REFUSALS_AT + ((start + probe) % REFUSALS) * REFUSAL_SIZE
      if (this.#words[(at >> 2) + REFUSAL_WORD.key] === key) share++
    }
    return share
  }
}

/**
 * Frees the refusals whose writers died with their engine, and drops what they had begun. Precondition: no thread
 * writes.
 */
export function freeRefusals(memory: ArrayBuffer, containers: Iterable<number>): void {
  const words = new Int32Array(memory)
  for (const container of containers) {
    const place = countsPlace(container)
    // Without refusals, the pages need not exist either. A place is marked as used before it is written.
    const used = (place >> 2) + HEAD_WORD.usedRefusals
    if (words.subarray(used, used + USED_WORDS).every((word) => word === 0)) continue
    for (let index = 0; index < REFUSALS; index++) freeRefusal(words, (place + REFUSALS_AT + index * REFUSAL_SIZE) >> 2)
  }
}

/** Erases arguments of calls in refusals that a mode does not allow. Precondition: no thread writes. */
export function forgetRefused(memory: ArrayBuffer, containers: Iterable<number>, mode: ArgumentMode): void {
  if (mode === 'all') return
  const view = new DataView(memory)
  for (const container of containers) {
    const place = countsPlace(container)
    if (view.getInt32(place + 4 * HEAD_WORD.refusals, true) === 0) continue
    for (let index = 0; index < REFUSALS; index++)
      forgetArguments(view, place + REFUSALS_AT + index * REFUSAL_SIZE + REFUSAL_HEAD, mode)
  }
}

function freeRefusal(words: Int32Array, first: number): void {
  if (words[first + REFUSAL_WORD.writer] === 0) return
  if ((words[first + REFUSAL_WORD.version]! & 1) === 1) {
    words[first + REFUSAL_WORD.key] = 0
    words[first + REFUSAL_WORD.version]!++
  }
  words[first + REFUSAL_WORD.writer] = 0
}
