import type { FdStore, InheritedFds, WordRange } from '../../caller/programs/fd-store.ts'
import { now } from '../../kernel/clock.ts'
import { Fd } from '../../kernel/fd.ts'

const WORD = {
  owner: 0,
  kind: 1,
  given: 2,
  made: 3,
  free: 4,
  born: 5,
  length: 6,
  doomed: 7,
  holder: 8,
  holderFd: 9,
  serial: 10,
} as const
export const ENTRY_WORDS = 11
/** Those that hold the number of a descriptor. */
const HELD = ['given', 'made', 'free'] as const
type Held = (typeof HELD)[number]
const NONE = -1
/** All but the making of a file system takes microseconds, and who comes meanwhile is too late. */
const LOCK_MS = 100

/** The words that only their owner gives a meaning to. */
type Word = 'owner' | 'kind' | 'born' | 'length' | 'holder' | 'holderFd'

/**
 * Entries of a few words each in memory that threads share, and that outlives them. An entry has an owner, or none; whoever
 * changes it locks it, and one that is doomed lets its descriptors go when it is unlocked.
 */
export class SharedEntries {
  readonly #words: Int32Array
  readonly #from: number
  readonly #locks: Int32Array
  readonly #fdStore: FdStore

  constructor({ words, from, locks }: WordRange, fdStore: FdStore) {
    this.#words = words
    this.#from = from
    this.#locks = locks
    this.#fdStore = fdStore
  }

  /** Takes over those of an engine before this one of which all descriptors are left; the others are no more. */
  restore(inheritedFds: InheritedFds): void {
    for (const index of this.owned) {
      const isWhole = HELD.map((word) => this.#take(index, word, inheritedFds)).every(Boolean)
      if (!isWhole) this.doom(index)
      this.unlock(index)
    }
  }

  /** @returns false if there should be one, and is not */
  #take(index: number, word: Held, inheritedFds: InheritedFds): boolean {
    if (this.#raw(index, word) === NONE) return true
    const fd = inheritedFds.take(this.#at(index, WORD[word]))
    this.#set(index, WORD[word], fd?.release() ?? NONE)
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
  renew(index: number, container: number, fds: Partial<Record<Held, Fd | undefined>>): void {
    this.#set(index, WORD.doomed, 0)
    for (const word of HELD) this.#put(index, word, container, fds[word])
    this.#set(index, WORD.serial, this.#get(index, WORD.serial) + 1)
  }

  /** Counts how often an entry was made new. */
  serial(index: number): number {
    return this.#get(index, WORD.serial)
  }

  fd(index: number, word: Held): Fd | undefined {
    const raw = this.#raw(index, word)
    return raw === NONE ? undefined : new Fd(raw)
  }

  /** Takes the place of what was made before. */
  keep(index: number, container: number, made: Fd): void {
    const before = this.#raw(index, 'made')
    if (before !== NONE) this.#fdStore.end([{ place: this.#at(index, WORD.made), raw: before }])
    this.#put(index, 'made', container, made)
  }

  #put(index: number, word: Held, container: number, fd: Fd | undefined): void {
    const place = this.#at(index, WORD[word])
    if (fd) this.#fdStore.keep(place, fd, container)
    this.#set(index, WORD[word], fd?.release() ?? NONE)
  }

  #raw(index: number, word: Held): number {
    return this.#get(index, WORD[word])
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
    const held = HELD.map((word) => ({ place: this.#at(index, WORD[word]), raw: this.#raw(index, word) }))
    this.#fdStore.end(held.filter(({ raw }) => raw !== NONE))
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
