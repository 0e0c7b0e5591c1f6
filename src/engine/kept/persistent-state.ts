import { BpfProgramStore, STORE_WORDS } from '../../caller/programs/bpf-program-store.ts'
import type { FdStore, InheritedFds } from '../../caller/programs/fd-store.ts'
import { CONTAINERS } from '../tables/limits.ts'
import { CONTEXT_WORDS, FsContextStore } from './fs-context-store.ts'

/** Where what begins, in 32-bit words. */
const LAYOUT = 0
const SERIALS = 1
const CONTEXTS = SERIALS + CONTAINERS
const PROGRAMS = CONTEXTS + CONTEXT_WORDS
const WORDS = PROGRAMS + CONTAINERS * STORE_WORDS

/** Of all of it: memory of another one is of no use. To be changed with it. */
const CURRENT = 1

/** In bytes. */
export const PERSISTENT_SIZE = 4 * WORDS

/** Says how new memory is used. */
export function markPersistent(memory: ArrayBuffer): void {
  new Int32Array(memory)[LAYOUT] = CURRENT
}

/** Was this memory used by a program that uses it as we do? */
export const isPersistent = (memory: ArrayBuffer): boolean =>
  memory.byteLength === PERSISTENT_SIZE && new Int32Array(memory)[LAYOUT] === CURRENT

/** What threads take to work on it, in memory of one engine: what one that has ended had locked is free. */
interface Locks {
  readonly contexts: Int32Array
  readonly programs: Int32Array
}

/**
 * What containers have got from us with which they go on by another call: contexts and mounts of fsopen(2), device programs.
 * It lies in memory of the keeper, which also keeps the descriptors; so a sequence of calls goes on with the next engine.
 */
export class PersistentState {
  readonly contexts: FsContextStore
  readonly programs: BpfProgramStore
  /** By container: whose all this is, for numbers of containers are used again. */
  readonly #serials: Int32Array
  readonly #fdStore: FdStore

  constructor(memory: ArrayBuffer, { contexts, programs }: Locks, fdStore: FdStore) {
    const words = new Int32Array(memory)
    this.#fdStore = fdStore
    this.#serials = words.subarray(SERIALS, CONTEXTS)
    this.contexts = new FsContextStore({ words, from: CONTEXTS, locks: contexts }, fdStore)
    this.programs = new BpfProgramStore({ words, from: PROGRAMS, locks: programs }, fdStore)
  }

  /** Takes over what an engine before this one has left. Before any thread looks at it. */
  restore(inheritedFds: InheritedFds): void {
    this.contexts.restore(inheritedFds)
    for (const [container, serial] of this.#serials.entries())
      if (serial !== 0) this.programs.restore(container, inheritedFds)
    this.#fdStore.end(inheritedFds.rest())
  }

  /** @param serial no other container has it */
  admit(container: number, serial: number): void {
    if (this.#serials[container] === serial) return
    this.forget(container)
    this.#serials[container] = serial
  }

  /** Of all others nothing stays. */
  keepOnly(containers: { has(container: number): boolean }): void {
    for (const [container, serial] of this.#serials.entries())
      if (serial !== 0 && !containers.has(container)) this.forget(container)
  }

  forget(container: number): void {
    this.contexts.forget(container)
    this.programs.forget(container)
    // Last: an engine that ends before has the next one do it.
    this.#serials[container] = 0
  }
}
