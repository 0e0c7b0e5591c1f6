import { hash } from 'node:crypto'
import type { TypedDev } from '../../abi/brand.ts'
import type { DeviceRules } from '../../calls/caller.ts'
import { struct } from '../../shared/words.ts'

/**
 * The seed of the keys of `DeviceRulesCache`: random and the same for all threads, so that no container can choose
 * groups that collide.
 */
export const SEED_BYTES = 16
const DEV_AT = SEED_BYTES
const TEXT_AT = DEV_AT + 8
/** Stands for the groups in which a container was handed over, instead of the text of /proc/PID/cgroup. */
export const HANDOVER = ''
/** In bytes: the text has a line for each hierarchy, of up to 4 KiB. */
const TEXT_LIMIT = 64 * 1024

/** Makes keys of a device and the groups that rule it. Invariant: an object belongs to one thread. */
export class RulesKeys {
  readonly #room = Buffer.alloc(TEXT_AT + TEXT_LIMIT)
  /** Where the text of groups is written before `keyOf` is called. */
  readonly text = this.#room.subarray(TEXT_AT)
  /** Of the last device and groups, mostly those of the next call too: a hash outside the caches takes 60 us. */
  #last = { of: Buffer.alloc(0), key: Buffer.alloc(0) }

  constructor(seed: Uint8Array) {
    this.#room.set(seed)
  }

  keyOf(dev: TypedDev, length: number): Buffer {
    this.#room.writeDoubleLE(dev, DEV_AT)
    const of = this.#room.subarray(0, TEXT_AT + length)
    if (!of.equals(this.#last.of)) this.#last = { of: Buffer.from(of), key: hash('sha256', of, 'buffer') }
    return this.#last.key
  }
}

/**
 * How long an answer is valid: the device rules of a running container rarely change, and a probe costs milliseconds.
 */
const FRESH_S = 10
/** How long "unknown" is valid: a failing probe costs even more, but the next one may succeed. */
const UNKNOWN_FRESH_S = 1
/** Places for answers, of each container. */
const PLACES = 64
/** first, second, third: the key. rules: the word of the answer. until: the second at which the answer expires. */
const [WORD, WORDS] = struct({ first: 1, second: 1, third: 1, rules: 1, until: 1 })
export const RULES_WORDS = PLACES * WORDS

/** Bits of the word of an answer, which is never 0, so that a thread can wait for it. */
const KNOWN = 1
const MKNOD = 2
const OPEN = 4
const FULL = 8
const UNKNOWN = 16

export const encodeRules = (rules: DeviceRules | undefined): number =>
  rules ? KNOWN | (rules.mknod ? MKNOD : 0) | (rules.open ? OPEN : 0) | (rules.full ? FULL : 0) : UNKNOWN
const decoded = Array.from({ length: UNKNOWN }, (_, word) => ({
  mknod: (word & MKNOD) !== 0,
  open: (word & OPEN) !== 0,
  full: (word & FULL) !== 0,
}))
/** @returns undefined if nobody knows */
export const decodeRules = (word: number): DeviceRules | undefined => decoded[word]

/**
 * The first word of a place. kept: it is that of a key, which is odd.
 *
 *   free -> taken   DeviceRulesCache.set()
 *   kept -> taken   DeviceRulesCache.set(), for the same key or another one
 *   taken -> kept   DeviceRulesCache.set(), once all other words are written
 *   kept -> free    DeviceRulesCache.forget(), as from every state
 */
const FREE = 0
const TAKEN = 2
/** A key: 96 bits of a digest that nobody can foresee. */
const first = (key: Buffer): number => key.readInt32LE(0) | 1
const second = (key: Buffer): number => key.readInt32LE(4)
const third = (key: Buffer): number => key.readInt32LE(8)

/**
 * The known device rules of containers, in memory that the threads share.
 *
 * Invariant: any thread may call everything. A thread that writes a place takes it first, and writes its first word
 * last; a thread that reads a place looks at its first word before and after: so no thread mixes two answers. No thread
 * waits: of two threads that write the same place, one drops its answer.
 */
export class DeviceRulesCache {
  readonly #words: Int32Array
  readonly #seconds: () => number

  /** @param words RULES_WORDS for each container */
  constructor(words: Int32Array, seconds: () => number) {
    this.#words = words
    this.#seconds = seconds
  }

  /**
   * @param key of a device and the groups that rule it
   * @returns the word of the answer; 0 if it must be asked for
   */
  get(container: number, key: Buffer): number {
    const at = this.#find(container, key)
    const rules = this.#load(at + WORD.rules)
    const until = this.#load(at + WORD.until)
    return this.#isAt(at, key) && until > this.#seconds() ? rules : 0
  }

  set(container: number, key: Buffer, word: number): void {
    const at = this.#find(container, key)
    const seen = this.#load(at)
    if (seen === TAKEN || Atomics.compareExchange(this.#words, at, seen, TAKEN) !== seen) return
    Atomics.store(this.#words, at + WORD.second, second(key))
    Atomics.store(this.#words, at + WORD.third, third(key))
    Atomics.store(this.#words, at + WORD.rules, word)
    const fresh = word === UNKNOWN ? UNKNOWN_FRESH_S : FRESH_S
    Atomics.store(this.#words, at + WORD.until, this.#seconds() + fresh)
    Atomics.store(this.#words, at + WORD.first, first(key))
  }

  forget(container: number): void {
    this.#words.fill(FREE, container * RULES_WORDS, (container + 1) * RULES_WORDS)
  }

  /**
   * Finds the place of a key; otherwise a free place or one whose answer has expired; otherwise the place where the
   * search began.
   */
  #find(container: number, key: Buffer): number {
    const from = container * RULES_WORDS
    const own = (second(key) >>> 0) % PLACES
    let found = from + own * WORDS
    for (let tries = 0; tries < PLACES; tries++) {
      const at = from + ((own + tries) % PLACES) * WORDS
      if (this.#isAt(at, key) || this.#load(at) === FREE) return at
      if (tries > 0 && this.#load(at + WORD.until) <= this.#seconds()) found = at
    }
    return found
  }

  #isAt(at: number, key: Buffer): boolean {
    const isFirst = this.#load(at) === first(key)
    const is = isFirst && this.#load(at + WORD.second) === second(key) && this.#load(at + WORD.third) === third(key)
    return is && this.#load(at) === first(key)
  }

  #load(at: number): number {
    return Atomics.load(this.#words, at)
  }
}
