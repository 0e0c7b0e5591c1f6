import type { Legacy, Place, Vault } from '../caller/vault.ts'
import { now } from '../kernel/clock.ts'
import { closeRaw, Fd } from '../kernel/fd.ts'

const WORD = {
  owner: 0,
  kind: 1,
  opened: 2,
  made: 3,
  born: 4,
  length: 5,
  doomed: 6,
  holder: 7,
  holderFd: 8,
  serial: 9,
} as const
export const ENTRY_WORDS = 10
/** Those that hold the number of a descriptor. */
type Held = typeof WORD.opened | typeof WORD.made
const NONE = -1
/** All but the making of a file system takes microseconds, and who comes meanwhile is too late. */
const LOCK_MS = 100

/** The words that only their owner gives a meaning to. */
type Word = 'owner' | 'kind' | 'born' | 'length' | 'holder' | 'holderFd'

/**
 * Entries of a few words each in memory that threads share, and that outlives them. An entry has an owner, or none; whoever changes it locks it, and
 * one that is doomed lets its descriptors go when it is unlocked.
 */
export class Entries {
  readonly #words: Int32Array
  readonly #from: number
  readonly #locks: Int32Array
  readonly #vault: Vault

  constructor({ words, from, locks }: Place, vault: Vault) {
    this.#words = words
    this.#from = from
    this.#locks = locks
    this.#vault = vault
  }

  /** Takes over those of an engine before this one of which all descriptors are left; the others are no more. */
  restore(legacy: Legacy): void {
    for (const index of this.owned) {
      const [opened, made] = [this.#take(index, WORD.opened, legacy), this.#take(index, WORD.made, legacy)]
      if (!opened || !made) this.doom(index)
      this.unlock(index)
    }
  }

  /** @returns false if there should be one, and is not */
  #take(index: number, word: Held, legacy: Legacy): boolean {
    if (this.#get(index, word) === NONE) return true
    const fd = legacy.take(this.#at(index, word))
    this.#set(index, word, fd?.release() ?? NONE)
    return fd !== undefined
  }

  /** Those that have an owner. */
  get owned(): number[] {
    const owned: number[] = []
    for (let index = 0; index < this.#locks.length; index++) if (this.get(index, 'owner') !== 0) owned.push(index)
    return owned
  }

  /** Locks one that has no owner; undefined if there is none. */
  lockFree(): number | undefined {
    for (let index = 0; index < this.#locks.length; index++) {
      if (this.get(index, 'owner') !== 0 || !this.tryLock(index)) continue
      if (this.get(index, 'owner') === 0) return index
      this.unlock(index)
    }
    return undefined
  }

  /** Makes a locked one new. The descriptors are owned by it from now on. */
  renew(index: number, container: number, opened: Fd, made: Fd | undefined): void {
    this.#set(index, WORD.doomed, 0)
    this.#put(index, WORD.opened, container, opened)
    this.#put(index, WORD.made, container, made)
    this.#set(index, WORD.serial, this.#get(index, WORD.serial) + 1)
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

  /** Takes the place of what was made before. */
  keep(index: number, container: number, made: Fd): void {
    const before = this.#get(index, WORD.made)
    this.#put(index, WORD.made, container, made)
    if (before !== NONE) closeRaw(before)
  }

  #put(index: number, word: Held, container: number, fd: Fd | undefined): void {
    if (fd) this.#vault.keep(this.#at(index, word), fd, container)
    this.#set(index, word, fd?.release() ?? NONE)
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
    return Atomics.compareExchange(this.#locks, index, 0, 1) === 0
  }

  /** @returns false if another thread has it for too long */
  lock(index: number): boolean {
    for (const end = now() + LOCK_MS; now() < end; ) {
      if (this.tryLock(index)) return true
      Atomics.wait(this.#locks, index, 1, LOCK_MS)
    }
    return false
  }

  unlock(index: number): void {
    if (this.get(index, 'owner') !== 0 && this.isDoomed(index)) this.#end(index)
    Atomics.store(this.#locks, index, 0)
    Atomics.notify(this.#locks, index)
  }

  #end(index: number): void {
    const held = [WORD.opened, WORD.made].filter((word) => this.#get(index, word) !== NONE)
    for (const word of held) closeRaw(this.#get(index, word))
    if (held.length > 0) this.#vault.drop(held.map((word) => this.#at(index, word)))
    this.set(index, 'owner', 0)
  }

  get(index: number, word: Word): number {
    return this.#get(index, WORD[word])
  }

  set(index: number, word: Word, value: number): void {
    this.#set(index, WORD[word], value)
  }

  #get(index: number, word: number): number {
    return Atomics.load(this.#words, this.#at(index, word))
  }

  #set(index: number, word: number, value: number): void {
    Atomics.store(this.#words, this.#at(index, word), value)
  }

  #at(index: number, word: number): number {
    return this.#from + index * ENTRY_WORDS + word
  }
}
