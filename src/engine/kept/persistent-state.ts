import { BpfProgramStore } from '../../caller/programs/bpf-program-store.ts'
import type { FdStore, InheritedFds } from '../../caller/programs/fd-store.ts'
import { CONTAINERS } from '../../link/limits.ts'
import { MADE_PER_CONTAINER, MADE_WORDS, PERSISTENT } from '../../link/persistent-layout.ts'
import { FsContextStore } from './fs-context-store.ts'

const [LOW, HIGH] = [0, 32] as const
const word = (id: bigint, shift: number): number => Number(BigInt.asIntN(32, id >> BigInt(shift)))

/**
 * The file systems that we made for each container and may change for it again, by the 64 random bits with which the
 * kernel identifies a file system. This holds no reference: once a file system is gone, no other has its id.
 *
 * Invariant: any thread may call all methods. While an id is being replaced, the old one is found, or none.
 */
export class MadeFileSystems {
  readonly #words: Int32Array
  readonly #from: number

  constructor(words: Int32Array, from: number) {
    this.#words = words
    this.#from = from
  }

  add(container: number, id: bigint): void {
    if (id === 0n) return
    const made = Atomics.add(this.#words, this.#at(container), 1) >>> 0
    const at = this.#place(container, made % MADE_PER_CONTAINER)
    Atomics.store(this.#words, at, 0)
    Atomics.store(this.#words, at + 1, word(id, HIGH))
    Atomics.store(this.#words, at, word(id, LOW))
  }

  has(container: number, id: bigint): boolean {
    if (id === 0n || Atomics.load(this.#words, this.#at(container)) === 0) return false
    const [low, high] = [word(id, LOW), word(id, HIGH)]
    for (let index = 0; index < MADE_PER_CONTAINER; index++) {
      const at = this.#place(container, index)
      if (Atomics.load(this.#words, at) === low && Atomics.load(this.#words, at + 1) === high) return true
    }
    return false
  }

  forget(container: number): void {
    this.#words.fill(0, this.#at(container), this.#at(container + 1))
  }

  #at(container: number): number {
    return this.#from + container * MADE_WORDS
  }

  #place(container: number, index: number): number {
    return this.#at(container) + 1 + 2 * index
  }
}

/**
 * The words of its locks, in the memory of one engine: locks that an engine held when it ended are free for the next.
 */
interface Locks {
  readonly contexts: Int32Array
  readonly programs: Int32Array
}

/**
 * What containers have got from us and use in later calls: contexts and mounts of fsopen(2), device programs, file
 * systems that may be changed. It is in the keeper's memory, and the keeper also holds the descriptors. So a sequence
 * of calls can continue with the next engine.
 *
 * Invariant: only the main thread calls the methods, and `restore` before any other thread has started. Threads use the
 * shared parts through `contexts` and `programs`, under their locks, and through `made`.
 */
export class PersistentState {
  readonly contexts: FsContextStore
  readonly programs: BpfProgramStore
  readonly made: MadeFileSystems
  /** By container: its serial, because other containers reuse its number. */
  readonly #serials: Int32Array
  readonly #fdStore: FdStore

  constructor(memory: ArrayBuffer, { contexts, programs }: Locks, fdStore: FdStore) {
    const words = new Int32Array(memory)
    this.#fdStore = fdStore
    this.#serials = words.subarray(PERSISTENT.serials, PERSISTENT.serials + CONTAINERS)
    this.contexts = new FsContextStore({ words, from: PERSISTENT.contexts, locks: contexts }, fdStore)
    this.programs = new BpfProgramStore({ words, from: PERSISTENT.programs, locks: programs }, fdStore)
    this.made = new MadeFileSystems(words, PERSISTENT.made)
  }

  /** Takes over the state of the previous engine. To be called before any thread looks at it. */
  restore(inheritedFds: InheritedFds): void {
    this.contexts.restore(inheritedFds)
    for (const [container, serial] of this.#serials.entries())
      if (serial !== 0) this.programs.restore(container, inheritedFds)
    this.#fdStore.end(inheritedFds.rest())
  }

  admit(container: number, serial: number): void {
    if (this.#serials[container] === serial) return
    this.forget(container)
    this.#serials[container] = serial
  }

  keepOnly(containers: { has(container: number): boolean }): void {
    for (const [container, serial] of this.#serials.entries())
      if (serial !== 0 && !containers.has(container)) this.forget(container)
  }

  forget(container: number): void {
    this.contexts.forget(this.#serials[container]!)
    this.programs.forget(container)
    this.made.forget(container)
    // This comes last: if the engine ends before it, the next one forgets the container.
    this.#serials[container] = 0
  }
}
