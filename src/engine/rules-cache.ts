import type { Dev } from '../abi/brand.ts'
import type { DeviceRules } from './device-rules.ts'

/** For so long an answer holds: device rules of a running container change rarely, and to ask costs milliseconds. */
const FRESH_S = 10
/** To ask costs even more where it fails, and the next time it may be known. */
const UNKNOWN_FRESH_S = 1
/** Places for devices, of each container. */
const PLACES = 64
const WORDS = 3
export const RULES_WORDS = PLACES * WORDS

const UNKNOWN = 8
/** One word that is never 0, so that it can be waited for. */
export const encodeRules = (rules: DeviceRules | undefined): number =>
  rules ? 1 | (rules.mknod ? 2 : 0) | (rules.open ? 4 : 0) : UNKNOWN
/** By the word. */
const decoded = Array.from({ length: UNKNOWN }, (_, word) => ({ mknod: (word & 2) !== 0, open: (word & 4) !== 0 }))
/** @returns undefined if nobody knows */
export const decodeRules = (word: number): DeviceRules | undefined => decoded[word]

/**
 * What is known of the device rules of containers, in memory that the threads share. A place is: the device and 1, what is
 * allowed, until when. The first word is written last and read first and last, so that no thread mixes two answers.
 */
export class RulesCache {
  readonly #words: Int32Array
  readonly #seconds: () => number

  /** @param words RULES_WORDS for each container */
  constructor(words: Int32Array, seconds: () => number) {
    this.#words = words
    this.#seconds = seconds
  }

  /** @returns the word of the answer; 0 if it must be asked for */
  get(container: number, dev: Dev): number {
    const at = this.#find(container, dev)
    const known = this.#load(at)
    const rules = this.#load(at + 1)
    const until = this.#load(at + 2)
    return known === tag(dev) && until > this.#seconds() && this.#load(at) === known ? rules : 0
  }

  set(container: number, dev: Dev, word: number): void {
    const at = this.#find(container, dev)
    Atomics.store(this.#words, at, 0)
    Atomics.store(this.#words, at + 1, word)
    Atomics.store(this.#words, at + 2, this.#seconds() + (word === UNKNOWN ? UNKNOWN_FRESH_S : FRESH_S))
    Atomics.store(this.#words, at, tag(dev))
  }

  forget(container: number): void {
    this.#words.fill(0, container * RULES_WORDS, (container + 1) * RULES_WORDS)
  }

  /** The place of a device; else one that is free, or no longer fresh; else that of the device that has its own. */
  #find(container: number, dev: Dev): number {
    const first = container * RULES_WORDS
    const own = dev % PLACES
    let found = first + own * WORDS
    for (let tries = 0; tries < PLACES; tries++) {
      const at = first + ((own + tries) % PLACES) * WORDS
      if (this.#load(at) === tag(dev) || this.#load(at) === 0) return at
      if (tries > 0 && this.#load(at + 2) <= this.#seconds()) found = at
    }
    return found
  }

  #load(at: number): number {
    return Atomics.load(this.#words, at)
  }
}

const tag = (dev: Dev): number => (dev + 1) | 0
