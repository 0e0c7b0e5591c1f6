import type { OwnProgram } from '../../calls/device-programs.ts'
import { closeRaw, dup, type Fd } from '../../kernel/fd.ts'
import { isAbandoned } from '../../kernel/pipe.ts'
import type { FdStore, InheritedFds, WordRange } from './fd-store.ts'

/** Programs of one container that may be there at once. */
const PROGRAMS = 128
const WORDS = 8
/** Of one place. */
const STATE = 0
const ID = 1
const LOADED = 2
const INODE = 4
const PROGRAM = 5
const STAND_IN = 6
/** free; open: a descriptor stands for it; known: none does any more, but it may be attached somewhere. */
const FREE = 0
const OPEN = 1
const KNOWN = 2
/** Of one container: who works on its places, and whether a program is being loaded. */
export const STORE_LOCKS = 2
export const STORE_WORDS = PROGRAMS * WORDS

/** A program and the pipe whose reading end stands for it in the container; both descriptors go to the store. */
interface Standing extends OwnProgram {
  readonly program: Fd
  readonly standIn: Fd
  readonly inode: bigint
}

/**
 * The device programs that containers have loaded, in memory that the threads share and that outlives them. For
 * each there is the descriptor of the program and the writing end of a pipe; the container has the reading end. When that
 * is closed everywhere, the descriptors go, and the number of the program is kept as long as the kernel has it.
 *
 * One thread at a time works on a container's part: a number of a descriptor that was closed may be another's by now.
 */
export class BpfProgramStore {
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

  /** Takes over what an engine before this one has left of a container; of a program without a descriptor the number is known. */
  restore(container: number, legacy: InheritedFds): void {
    for (const at of this.#places(container)) {
      if (this.#words[at + STATE] !== OPEN) continue
      const [program, standIn] = [legacy.take(at + PROGRAM), legacy.take(at + STAND_IN)]
      if (program && standIn) {
        this.#words[at + PROGRAM] = program.release()
        this.#words[at + STAND_IN] = standIn.release()
        continue
      }
      this.#words[at + STATE] = KNOWN
      this.#fdStore.drop([at + PROGRAM, at + STAND_IN])
      program?.[Symbol.dispose]()
      standIn?.[Symbol.dispose]()
    }
  }

  /**
   * @param exists whether the kernel still has a program; asked only if there is no place left
   * @returns false if there is no place: then nothing is taken over
   */
  add(container: number, standing: Standing, exists: (program: OwnProgram) => boolean): boolean {
    return this.#alone(container, () => {
      this.#closeAbandoned(container)
      const at = this.#place(container, standing, exists)
      if (at === undefined) return false
      this.#words[at + ID] = standing.id
      this.#words[at + LOADED] = Number(BigInt.asIntN(32, standing.loaded))
      this.#words[at + LOADED + 1] = Number(standing.loaded >> 32n)
      this.#words[at + INODE] = Number(BigInt.asIntN(32, standing.inode))
      this.#fdStore.keep(at + PROGRAM, standing.program, container)
      this.#fdStore.keep(at + STAND_IN, standing.standIn, container)
      this.#words[at + PROGRAM] = standing.program.release()
      this.#words[at + STAND_IN] = standing.standIn.release()
      Atomics.store(this.#words, at + STATE, OPEN)
      return true
    })
  }

  /** The program for which the pipe with this inode stands. */
  named(container: number, inode: bigint): OwnProgram | undefined {
    const word = Number(BigInt.asIntN(32, inode))
    return this.#alone(container, () => {
      const at = this.#find(container, (at) => this.#words[at + STATE] === OPEN && this.#words[at + INODE] === word)
      return at === undefined ? undefined : this.#programAt(at)
    })
  }

  numbered(container: number, id: number): OwnProgram | undefined {
    return this.#alone(container, () => {
      const at = this.#find(container, (at) => this.#words[at + STATE] !== FREE && this.#words[at + ID] === (id | 0))
      return at === undefined ? undefined : this.#programAt(at)
    })
  }

  /** Runs loads of a container one after the other: no more than one processor works for its verifier. */
  loading<T>(container: number, mayWait: () => void, load: () => T): T {
    return this.#locked(container * STORE_LOCKS + 1, mayWait, load)
  }

  /** A descriptor of a program, if there is still one here. */
  open(container: number, program: OwnProgram): Fd | undefined {
    return this.#alone(container, () => {
      const at = this.#find(container, (at) => this.#words[at + STATE] === OPEN && this.#isAt(at, program))
      return at === undefined ? undefined : dup({ raw: this.#words[at + PROGRAM]!, [Symbol.dispose]() {} })
    })
  }

  /** The container is gone: nothing of it stays open. */
  forget(container: number): void {
    this.#alone(container, () => {
      for (const at of this.#places(container)) {
        const isOpen = this.#words[at + STATE] === OPEN
        this.#words[at + STATE] = FREE
        if (isOpen) this.#close(at)
      }
    })
  }

  /** A place for a program: the one that it had, a free one, or that of one which is no more. */
  #place(container: number, program: OwnProgram, exists: (program: OwnProgram) => boolean): number | undefined {
    const find = (test: (at: number) => boolean): number | undefined => this.#find(container, test)
    const state = (at: number): number => this.#words[at + STATE]!
    return (
      find((at) => state(at) === KNOWN && this.#isAt(at, program)) ??
      find((at) => state(at) === FREE) ??
      find((at) => state(at) === KNOWN && !exists(this.#programAt(at)))
    )
  }

  #closeAbandoned(container: number): void {
    for (const at of this.#places(container)) {
      if (this.#words[at + STATE] !== OPEN || !isAbandoned(this.#words[at + STAND_IN]!)) continue
      this.#words[at + STATE] = KNOWN
      this.#close(at)
    }
  }

  #close(at: number): void {
    this.#fdStore.drop([at + PROGRAM, at + STAND_IN])
    closeRaw(this.#words[at + PROGRAM]!)
    closeRaw(this.#words[at + STAND_IN]!)
  }

  #programAt(at: number): OwnProgram {
    const low = BigInt.asUintN(32, BigInt(this.#words[at + LOADED]!))
    const high = BigInt.asUintN(32, BigInt(this.#words[at + LOADED + 1]!))
    return { id: this.#words[at + ID]! >>> 0, loaded: low | (high << 32n) }
  }

  #isAt(at: number, { id, loaded }: OwnProgram): boolean {
    const here = this.#programAt(at)
    return here.id === id && here.loaded === loaded
  }

  #find(container: number, test: (at: number) => boolean): number | undefined {
    for (const at of this.#places(container)) if (test(at)) return at
    return undefined
  }

  *#places(container: number): Generator<number> {
    const first = this.#from + container * STORE_WORDS
    for (let at = first; at < first + STORE_WORDS; at += WORDS) yield at
  }

  #alone<T>(container: number, action: () => T): T {
    return this.#locked(container * STORE_LOCKS, () => {}, action)
  }

  /** @param mayWait called before the thread waits for another */
  #locked<T>(lock: number, mayWait: () => void, action: () => T): T {
    for (let tries = 0; Atomics.compareExchange(this.#locks, lock, 0, 1) !== 0; tries++) {
      if (tries === 0) mayWait()
      Atomics.wait(this.#locks, lock, 1)
    }
    try {
      return action()
    } finally {
      Atomics.store(this.#locks, lock, 0)
      Atomics.notify(this.#locks, lock, 1)
    }
  }
}
