import type { FdStore, InheritedFds, WordRange } from '../../caller/programs/fd-store.ts'
import { Fd } from '../../kernel/fd.ts'
import { ENTRY, ENTRY_WORDS } from '../../link/persistent-layout.ts'
import { Locks } from '../../shared/lock.ts'

/** The words that hold the number of a descriptor. */
const HELD = ['given', 'made', 'unlockedCopy'] as const
type Held = (typeof HELD)[number]
const NONE = -1
/**
 * How long a call waits for an entry that another call has locked. Only making a file system takes more than
 * microseconds, and that may hang for ever: then the call gets `busy`. A call that a signal has cancelled leaves its
 * entry within 200 ms, to itself as it comes again.
 */
const LOCK_MS = 500
/** How long a call waits until another thread has ended an entry: longer than that waits for the keeper. */
const END_MS = 3000

/** The words whose meaning only the owner defines. */
type Word = 'owner' | 'kind' | 'born' | 'length' | 'holder' | 'holderFd' | 'before' | 'beforeSerial'

/**
 * Entries of a few words each, in memory that the threads share and that outlives the engine.
 *
 *   unowned -> owned   SharedEntries.set('owner', N), after SharedEntries.lockUnowned() and SharedEntries.renew()
 *   owned -> doomed    SharedEntries.doom(), SharedEntries.drop(); SharedEntries.restore(), if a descriptor is not left
 *   doomed -> unowned  SharedEntries.unlock(): its descriptors are closed
 *   owned -> unowned   SharedEntries.seize()
 *
 * Invariant: any thread may read an entry, but must read it again under the lock before it relies on the words. Only
 * the thread that has locked an entry may change it, except that any thread may call `drop` at any time. The locks
 * belong to this engine: entries that an earlier engine had locked are free.
 */
export class SharedEntries {
  readonly #words: Int32Array
  readonly #from: number
  readonly #locks: Locks
  readonly #count: number
  readonly #fdStore: FdStore

  constructor({ words, from, locks }: WordRange, fdStore: FdStore) {
    this.#words = words
    this.#from = from
    this.#locks = new Locks(locks)
    this.#count = locks.length
    this.#fdStore = fdStore
  }

  /**
   * Takes over the entries of the previous engine whose descriptors are all there, and ends the others. To be called
   * before any thread uses them.
   */
  restore(inheritedFds: InheritedFds): void {
    for (const index of this.owned) {
      this.tryLock(index)
      const isWhole = HELD.map((word) => this.#take(index, word, inheritedFds)).every(Boolean)
      if (!isWhole) this.doom(index)
      this.unlock(index)
    }
  }

  /**
   * @returns false if a descriptor is missing
   */
  #take(index: number, word: Held, inheritedFds: InheritedFds): boolean {
    if (this.#raw(index, word) === NONE) return true
    const fd = inheritedFds.take(this.#at(index, ENTRY[word]))
    this.#set(index, ENTRY[word], fd?.release() ?? NONE)
    return fd !== undefined
  }

  get owned(): number[] {
    const owned: number[] = []
    for (let index = 0; index < this.#count; index++) if (this.get(index, 'owner') !== 0) owned.push(index)
    return owned
  }

  /** Locks an entry that has no owner. @returns undefined if there is none */
  lockUnowned(): number | undefined {
    for (let index = 0; index < this.#count; index++) {
      if (this.get(index, 'owner') !== 0 || !this.tryLock(index)) continue
      if (this.get(index, 'owner') === 0) return index
      this.unlock(index)
    }
    return undefined
  }

  /**
   * Locks an entry, and takes it from its owner. Closing its descriptors may hang in something of that owner, so
   * nothing waits for that.
   *
   * @returns false if another thread has locked it, or it has another owner by now
   */
  seize(index: number, owner: number): boolean {
    if (!this.tryLock(index)) return false
    if (this.get(index, 'owner') !== owner) {
      this.unlock(index)
      return false
    }
    // Only an fsopen(2) context from which nothing was made is closed at once: that needs no helper.
    this.#end(index, this.#raw(index, 'made') === NONE ? 'end' : 'endLater')
    return true
  }

  /** Renews a locked entry, and owns the descriptors from now on. */
  renew(index: number, container: number, fds: Partial<Record<Held, Fd | undefined>>): void {
    this.#set(index, ENTRY.doomed, 0)
    for (const word of HELD) this.#put(index, word, container, fds[word])
    this.#set(index, ENTRY.serial, this.#get(index, ENTRY.serial) + 1)
  }

  /** How often an entry was renewed. */
  serial(index: number): number {
    return this.#get(index, ENTRY.serial)
  }

  fd(index: number, word: Held): Fd | undefined {
    const raw = this.#raw(index, word)
    return raw === NONE ? undefined : new Fd(raw)
  }

  /** Replaces the `made` descriptor. */
  keep(index: number, container: number, made: Fd): void {
    const before = this.#raw(index, 'made')
    if (before !== NONE) this.#fdStore.end([{ place: this.#at(index, ENTRY.made), raw: before }])
    this.#put(index, 'made', container, made)
  }

  #put(index: number, word: Held, container: number, fd: Fd | undefined): void {
    const place = this.#at(index, ENTRY[word])
    if (fd) this.#fdStore.keep(place, fd, container)
    this.#set(index, ENTRY[word], fd?.release() ?? NONE)
  }

  #raw(index: number, word: Held): number {
    return this.#get(index, ENTRY[word])
  }

  isDoomed(index: number): boolean {
    return this.#get(index, ENTRY.doomed) === this.serial(index)
  }

  /** Lets an entry end when it is unlocked. */
  doom(index: number): void {
    this.#set(index, ENTRY.doomed, this.serial(index))
  }

  /**
   * Ends an entry now, or when the thread that has locked it unlocks it.
   *
   * @param serial which one is meant: it may have ended, and another may be in its place
   */
  drop(index: number, serial = this.serial(index)): void {
    const at = this.#at(index, ENTRY.doomed)
    const before = Atomics.load(this.#words, at)
    if (this.serial(index) !== serial) return
    // If it has changed since, there is a later entry.
    Atomics.compareExchange(this.#words, at, before, serial)
    if (this.tryLock(index)) this.unlock(index)
  }

  /**
   * Ends an entry like `drop`, and returns once its descriptors are closed, unless the thread that closes them hangs.
   */
  dropNow(index: number, serial: number): void {
    this.drop(index, serial)
    const isThere = this.get(index, 'owner') !== 0 && this.serial(index) === serial
    if (isThere && this.#locks.take(index, END_MS)) this.unlock(index)
  }

  tryLock(index: number): boolean {
    return this.#locks.tryTake(index)
  }

  /**
   * @returns false if another thread keeps it locked for too long
   */
  lock(index: number): boolean {
    return this.#locks.take(index, LOCK_MS)
  }

  unlock(index: number): void {
    do {
      if (this.#isOver(index)) this.#end(index)
      this.#locks.release(index)
      // Another thread may have marked it after that look, and have found it locked.
    } while (this.#isOver(index) && this.tryLock(index))
  }

  #isOver(index: number): boolean {
    return this.get(index, 'owner') !== 0 && this.isDoomed(index)
  }

  #end(index: number, how: 'end' | 'endLater' = 'end'): void {
    const held = HELD.map((word) => ({ place: this.#at(index, ENTRY[word]), raw: this.#raw(index, word) }))
    this.#fdStore[how](held.filter(({ raw }) => raw !== NONE))
    this.set(index, 'owner', 0)
  }

  get(index: number, word: Word): number {
    return this.#get(index, ENTRY[word])
  }

  set(index: number, word: Word, value: number): void {
    this.#set(index, ENTRY[word], value)
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
