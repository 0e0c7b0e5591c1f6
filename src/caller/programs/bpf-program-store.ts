import type { OwnProgram } from '../../calls/device-programs.ts'
import { closeRaw, dup, type Fd, isAbandoned } from '../../kernel/fd.ts'
import { Locks } from '../../shared/lock.ts'
import { load64, low32, store64, struct } from '../../shared/words.ts'
import type { FdStore, InheritedFds, WordRange } from './fd-store.ts'

/** Programs and links of one container that may be there at once. */
const PROGRAMS = 128
/**
 * The place of a program or link. id: its number. All others are of a program. loaded: when it was loaded. inode: the
 * lower half of that of its stand-in. program, standIn: the numbers of our descriptors.
 */
const [WORD, WORDS] = struct({ state: 1, id: 1, loaded: 2, inode: 1, program: 1, standIn: 1, unused: 1 })
/**
 * open: a descriptor of the container stands for the program. known: none does any more, but it may be attached
 * somewhere. link: a descriptor of the container is a link, which is memory of ours as long as it is open.
 *
 *   free -> open    BpfProgramStore.add()
 *   open -> known   BpfProgramStore.add(), of a program whose stand-in is closed everywhere
 *   open -> known   BpfProgramStore.restore(): a descriptor is not left
 *   known -> open   BpfProgramStore.add(): the program is opened again
 *   known -> open   BpfProgramStore.add(), of another program: the kernel has the old one no more
 *   free -> link    BpfProgramStore.addLink()
 *   known -> link, link -> open, link -> link   the same two, if the kernel has the old one no more
 *   open -> free    BpfProgramStore.forget()
 *   known -> free   BpfProgramStore.forget()
 *   link -> free    BpfProgramStore.forget()
 */
const PLACE = { free: 0, open: 1, known: 2, link: 3 } as const
/** Of one container: the lock of its places, and the lock under which a program is loaded. */
const [LOCK, LOCKS] = struct({ places: 1, loading: 1 })
export const STORE_LOCKS = LOCKS
export const STORE_WORDS = PROGRAMS * WORDS

/** A program and the pipe whose reading end stands for it in the container; both descriptors go to the store. */
interface Standing extends OwnProgram {
  readonly program: Fd
  readonly standIn: Fd
  readonly inode: bigint
}

/** Tells whether the kernel still has a program or a link. */
export interface Exists {
  program(program: OwnProgram): boolean
  link(id: number): boolean
}

/**
 * The device programs that containers have loaded, in memory that the threads share and that outlives the engine. For
 * each there is the descriptor of the program and the writing end of a pipe; the container has the reading end, the
 * stand-in. When that is closed everywhere, the descriptors go, and the number of the program is kept as long as the
 * kernel has it.
 *
 * Invariant: any thread may call everything but `restore`. The places of a container are read and changed under their
 * lock only: the number of a descriptor that was closed may be another's by now. A thread waits for a lock as long as
 * it takes, for nothing of the container can hold up the thread that has it: under the lock of the places the keeper is
 * asked, for a bounded time; under the other lock the kernel's verifier works, which every load of the container must
 * wait for anyway. The locks are the engine's own: what a thread of an earlier engine had locked is free.
 */
export class BpfProgramStore {
  readonly #words: Int32Array
  readonly #from: number
  readonly #locks: Locks
  readonly #fdStore: FdStore

  constructor({ words, from, locks }: WordRange, fdStore: FdStore) {
    this.#words = words
    this.#from = from
    this.#locks = new Locks(locks)
    this.#fdStore = fdStore
  }

  /**
   * Takes over what the previous engine has left of a container; of a program without a descriptor the number stays
   * known.
   */
  restore(container: number, inheritedFds: InheritedFds): void {
    for (const at of this.#places(container)) {
      if (this.#words[at + WORD.state] !== PLACE.open) continue
      const [program, standIn] = [inheritedFds.take(at + WORD.program), inheritedFds.take(at + WORD.standIn)]
      if (program && standIn) {
        this.#words[at + WORD.program] = program.release()
        this.#words[at + WORD.standIn] = standIn.release()
        continue
      }
      this.#words[at + WORD.state] = PLACE.known
      this.#fdStore.drop([at + WORD.program, at + WORD.standIn])
      program?.[Symbol.dispose]()
      standIn?.[Symbol.dispose]()
    }
  }

  /**
   * @param exists asked only if there is no place left
   * @param mayWait called before the thread waits for the keeper
   * @returns false if there is no place: then nothing is taken over
   */
  add(container: number, standing: Standing, exists: Exists, mayWait: () => void): boolean {
    return this.#placing(container, mayWait, () => {
      const dropped = this.#closeAbandoned(container)
      const at = this.#place(container, standing, exists)
      if (at === undefined) {
        this.#drop(dropped, container)
        return false
      }
      this.#words[at + WORD.id] = standing.id
      store64(this.#words, at + WORD.loaded, standing.loaded)
      this.#words[at + WORD.inode] = low32(standing.inode)
      const copies = [
        { place: at + WORD.program, fd: standing.program },
        { place: at + WORD.standIn, fd: standing.standIn },
      ]
      this.#fdStore.exchange(dropped, copies, container)
      this.#words[at + WORD.program] = standing.program.release()
      this.#words[at + WORD.standIn] = standing.standIn.release()
      Atomics.store(this.#words, at + WORD.state, PLACE.open)
      return true
    })
  }

  /** Counts a link that the container gets, in the same way. @returns false if there is no place for it */
  addLink(container: number, id: number, exists: Exists, mayWait: () => void): boolean {
    return this.#placing(container, mayWait, () => {
      this.#drop(this.#closeAbandoned(container), container)
      const at = this.#freePlace(container, exists)
      if (at === undefined) return false
      this.#words[at + WORD.id] = id
      Atomics.store(this.#words, at + WORD.state, PLACE.link)
      return true
    })
  }

  /** Tries it again if there is no place: copies of programs that are gone may still wait in the keeper's queue. */
  #placing(container: number, mayWait: () => void, add: () => boolean): boolean {
    if (this.#alone(container, add)) return true
    mayWait()
    this.#fdStore.settle()
    return this.#alone(container, add)
  }

  /** The program for which the pipe with this inode stands. */
  named(container: number, inode: bigint): OwnProgram | undefined {
    const word = low32(inode)
    return this.#alone(container, () => {
      const at = this.#find(
        container,
        (at) => this.#words[at + WORD.state] === PLACE.open && this.#words[at + WORD.inode] === word,
      )
      return at === undefined ? undefined : this.#programAt(at)
    })
  }

  numbered(container: number, id: number): OwnProgram | undefined {
    return this.#alone(container, () => {
      const at = this.#find(container, (at) => this.#isProgram(at) && this.#words[at + WORD.id] === (id | 0))
      return at === undefined ? undefined : this.#programAt(at)
    })
  }

  /**
   * Runs loads of a container one after the other: the verifier works for it on one processor at most.
   *
   * @param mayWait called before the thread waits for another
   */
  loading<T>(container: number, mayWait: () => void, load: () => T): T {
    const lock = container * LOCKS + LOCK.loading
    if (!this.#locks.tryTake(lock)) {
      mayWait()
      this.#locks.take(lock)
    }
    try {
      return load()
    } finally {
      this.#locks.release(lock)
    }
  }

  /** A descriptor of a program, if a descriptor of the container still stands for it. */
  open(container: number, program: OwnProgram): Fd | undefined {
    return this.#alone(container, () => {
      const at = this.#find(container, (at) => this.#words[at + WORD.state] === PLACE.open && this.#isAt(at, program))
      return at === undefined ? undefined : dup({ raw: this.#words[at + WORD.program]!, [Symbol.dispose]() {} })
    })
  }

  /** The container is gone: none of its descriptors stays open. */
  forget(container: number): void {
    this.#alone(container, () => {
      const dropped: number[] = []
      for (const at of this.#places(container)) {
        const isOpen = this.#words[at + WORD.state] === PLACE.open
        this.#words[at + WORD.state] = PLACE.free
        if (isOpen) dropped.push(...this.#close(at))
      }
      this.#drop(dropped, container)
    })
  }

  /** A place for a program: its own if it has one, or a free one. */
  #place(container: number, program: OwnProgram, exists: Exists): number | undefined {
    return (
      this.#find(container, (at) => this.#isAt(at, program) && this.#words[at + WORD.state] === PLACE.known) ??
      this.#freePlace(container, exists)
    )
  }

  /** A free place, or that of a program or link which the kernel has no more. */
  #freePlace(container: number, exists: Exists): number | undefined {
    const state = (at: number): number => this.#words[at + WORD.state]!
    return (
      this.#find(container, (at) => state(at) === PLACE.free) ??
      this.#find(container, (at) => state(at) === PLACE.known && !exists.program(this.#programAt(at))) ??
      this.#find(container, (at) => state(at) === PLACE.link && !exists.link(this.#words[at + WORD.id]! >>> 0))
    )
  }

  #isProgram(at: number): boolean {
    const state = this.#words[at + WORD.state]
    return state === PLACE.open || state === PLACE.known
  }

  /** Closes the descriptors for which no descriptor of the container stands any more. @returns their places */
  #closeAbandoned(container: number): readonly number[] {
    const closed: number[] = []
    this.#find(container, (at) => {
      if (this.#words[at + WORD.state] !== PLACE.open || !isAbandoned(this.#words[at + WORD.standIn]!)) return false
      this.#words[at + WORD.state] = PLACE.known
      closed.push(...this.#close(at))
      return false
    })
    return closed
  }

  /** Closes our descriptors of an entry. @returns the places of their copies, which the caller has to drop */
  #close(at: number): readonly [number, number] {
    closeRaw(this.#words[at + WORD.program]!)
    closeRaw(this.#words[at + WORD.standIn]!)
    return [at + WORD.program, at + WORD.standIn]
  }

  #drop(places: readonly number[], container: number): void {
    if (places.length > 0) this.#fdStore.exchange(places, [], container)
  }

  #programAt(at: number): OwnProgram {
    return { id: this.#words[at + WORD.id]! >>> 0, loaded: load64(this.#words, at + WORD.loaded) }
  }

  #isAt(at: number, { id, loaded }: OwnProgram): boolean {
    return this.#words[at + WORD.id]! >>> 0 === id && load64(this.#words, at + WORD.loaded) === loaded
  }

  /** Looks in a loop of its own, since a generator costs more than what is looked at. */
  #find(container: number, test: (at: number) => boolean): number | undefined {
    const first = this.#first(container)
    for (let at = first; at < first + STORE_WORDS; at += WORDS) if (test(at)) return at
    return undefined
  }

  *#places(container: number): Generator<number> {
    const first = this.#first(container)
    for (let at = first; at < first + STORE_WORDS; at += WORDS) yield at
  }

  #first(container: number): number {
    return this.#from + container * STORE_WORDS
  }

  #alone<T>(container: number, action: () => T): T {
    return this.#locks.during(container * LOCKS + LOCK.places, action)
  }
}
