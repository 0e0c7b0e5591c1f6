import { now } from '../kernel/clock.ts'
import { closeRaw, Fd } from '../kernel/fd.ts'

const WORD = {
  lock: 0,
  owner: 1,
  kind: 2,
  opened: 3,
  made: 4,
  born: 5,
  length: 6,
  doomed: 7,
  holder: 8,
  holderFd: 9,
  serial: 10,
} as const
const WORDS = 11
export const ENTRY_BYTES = 4 * WORDS
const NONE = -1
/** All but the making of a file system takes microseconds, and who comes meanwhile is too late. */
const LOCK_MS = 100

/** The words that only their owner gives a meaning to. */
type Word = 'owner' | 'kind' | 'born' | 'length' | 'holder' | 'holderFd'

/**
 * Entries of a few words each in memory that threads share. An entry has an owner, or none; whoever changes it locks it, and
 * one that is doomed lets its descriptors go when it is unlocked.
 */
export class Entries {
  readonly #words: Int32Array
  readonly #count: number

  constructor(memory: SharedArrayBuffer, count: number) {
    this.#words = new Int32Array(memory, 0, count * WORDS)
    this.#count = count
  }

  /** Those that have an owner. */
  get owned(): number[] {
    const owned: number[] = []
    for (let index = 0; index < this.#count; index++) if (this.get(index, 'owner') !== 0) owned.push(index)
    return owned
  }

  /** Locks one that has no owner; undefined if there is none. */
  lockFree(): number | undefined {
    for (let index = 0; index < this.#count; index++) {
      if (this.get(index, 'owner') !== 0 || !this.tryLock(index)) continue
      if (this.get(index, 'owner') === 0) return index
      this.unlock(index)
    }
    return undefined
  }

  /** Makes a locked one new. The descriptors are owned by it from now on. */
  renew(index: number, opened: Fd, made: Fd | undefined): void {
    this.#set(index, WORD.doomed, 0)
    this.#set(index, WORD.opened, opened.release())
    this.keep(index, made)
    Atomics.add(this.#words, index * WORDS + WORD.serial, 1)
  }

  /** Counts how often an entry was made new. */
  serial(index: number): number {
    return this.#get(index, WORD.serial)
  }

  opened(index: number): Fd {
    return new Fd(this.#get(index, WORD.opened))
  }

  made(index: number): Fd | undefined {
    const raw = this.#get(index, WORD.made)
    return raw === NONE ? undefined : new Fd(raw)
  }

  keep(index: number, made: Fd | undefined): void {
    this.#set(index, WORD.made, made?.release() ?? NONE)
  }

  isDoomed(index: number): boolean {
    return this.#get(index, WORD.doomed) === 1
  }

  doom(index: number): void {
    this.#set(index, WORD.doomed, 1)
  }

  /** Lets it go now, or when who has it locked is done. */
  drop(index: number): void {
    this.doom(index)
    if (this.tryLock(index)) this.unlock(index)
  }

  tryLock(index: number): boolean {
    return Atomics.compareExchange(this.#words, index * WORDS + WORD.lock, 0, 1) === 0
  }

  /** @returns false if another thread has it for too long */
  lock(index: number): boolean {
    for (const end = now() + LOCK_MS; now() < end; ) {
      if (this.tryLock(index)) return true
      Atomics.wait(this.#words, index * WORDS + WORD.lock, 1, LOCK_MS)
    }
    return false
  }

  unlock(index: number): void {
    if (this.get(index, 'owner') !== 0 && this.isDoomed(index)) {
      this.set(index, 'owner', 0)
      closeRaw(this.#get(index, WORD.opened))
      if (this.#get(index, WORD.made) !== NONE) closeRaw(this.#get(index, WORD.made))
    }
    this.#set(index, WORD.lock, 0)
    Atomics.notify(this.#words, index * WORDS + WORD.lock)
  }

  get(index: number, word: Word): number {
    return this.#get(index, WORD[word])
  }

  set(index: number, word: Word, value: number): void {
    this.#set(index, WORD[word], value)
  }

  #get(index: number, word: number): number {
    return Atomics.load(this.#words, index * WORDS + word)
  }

  #set(index: number, word: number, value: number): void {
    Atomics.store(this.#words, index * WORDS + word, value)
  }
}
