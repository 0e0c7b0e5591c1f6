import type { DeviceRules } from './probe-device-rules.ts'

/** For so long an answer holds: device rules of a running container change rarely, and to ask costs milliseconds. */
const FRESH_S = 10
/** To ask costs even more where it fails, and the next time it may be known. */
const UNKNOWN_FRESH_S = 1
/** Places for questions, of each container. */
const PLACES = 64
/** The key, what is allowed, until when. */
const WORDS = 5
export const RULES_WORDS = PLACES * WORDS

/** A word of an answer: one that is never 0, so that it can be waited for. */
const KNOWN = 1
const MKNOD = 2
const OPEN = 4
const UNKNOWN = 8
/** It stays so although it was tried to bar the opening: that need not be tried again soon. */
const STAYS = 16

export const encodeRules = (rules: DeviceRules | undefined): number =>
  rules ? KNOWN | (rules.mknod ? MKNOD : 0) | (rules.open ? OPEN : 0) : UNKNOWN
/** By the word. */
const decoded = Array.from({ length: UNKNOWN }, (_, word) => ({
  mknod: (word & MKNOD) !== 0,
  open: (word & OPEN) !== 0,
}))
/** @returns undefined if nobody knows */
export const decodeRules = (word: number): DeviceRules | undefined => decoded[word & ~STAYS]

export const isOpen = (word: number): boolean => (word & OPEN) !== 0
export const stays = (word: number): boolean => (word & STAYS) !== 0
export const staying = (word: number): number => word | STAYS

/** The first word of a place: none of these is that of a key, which is odd. */
const FREE = 0
const TAKEN = 2
/** Of a digest that nobody can foresee: 96 bits. */
const first = (key: Buffer): number => key.readInt32LE(0) | 1
const second = (key: Buffer): number => key.readInt32LE(4)
const third = (key: Buffer): number => key.readInt32LE(8)

/**
 * What is known of the device rules of containers, in memory that the threads share. Who writes a place takes it first, and
 * writes its first word last; who reads it looks at that word before and after: no thread mixes two answers.
 */
export class DeviceRulesCache {
  readonly #words: Int32Array
  readonly #seconds: () => number

  /** @param words RULES_WORDS for each container */
  constructor(words: Int32Array, seconds: () => number) {
    this.#words = words
    this.#seconds = seconds
  }

  /** @param key of a device and the groups that rule it @returns the word of the answer; 0 if it must be asked for */
  get(container: number, key: Buffer): number {
    const at = this.#find(container, key)
    const rules = this.#load(at + 3)
    const until = this.#load(at + 4)
    return this.#isAt(at, key) && until > this.#seconds() ? rules : 0
  }

  /** Where two threads want the same place, one answer is not kept. */
  set(container: number, key: Buffer, word: number): void {
    const at = this.#find(container, key)
    const seen = this.#load(at)
    if (seen === TAKEN || Atomics.compareExchange(this.#words, at, seen, TAKEN) !== seen) return
    Atomics.store(this.#words, at + 1, second(key))
    Atomics.store(this.#words, at + 2, third(key))
    Atomics.store(this.#words, at + 3, word)
    Atomics.store(this.#words, at + 4, this.#seconds() + (word === UNKNOWN ? UNKNOWN_FRESH_S : FRESH_S))
    Atomics.store(this.#words, at, first(key))
  }

  forget(container: number): void {
    this.#words.fill(FREE, container * RULES_WORDS, (container + 1) * RULES_WORDS)
  }

  /** The place of a key; else one that is free, or no longer fresh; else that of the key that has its own. */
  #find(container: number, key: Buffer): number {
    const from = container * RULES_WORDS
    const own = (second(key) >>> 0) % PLACES
    let found = from + own * WORDS
    for (let tries = 0; tries < PLACES; tries++) {
      const at = from + ((own + tries) % PLACES) * WORDS
      if (this.#isAt(at, key) || this.#load(at) === FREE) return at
      if (tries > 0 && this.#load(at + 4) <= this.#seconds()) found = at
    }
    return found
  }

  #isAt(at: number, key: Buffer): boolean {
    const is = this.#load(at) === first(key) && this.#load(at + 1) === second(key) && this.#load(at + 2) === third(key)
    return is && this.#load(at) === first(key)
  }

  #load(at: number): number {
    return Atomics.load(this.#words, at)
  }
}
