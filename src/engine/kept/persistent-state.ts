import { BpfProgramStore, STORE_WORDS } from '../../caller/programs/bpf-program-store.ts'
import type { FdStore, InheritedFds } from '../../caller/programs/fd-store.ts'
import { struct } from '../../shared/struct.ts'
import { CONTAINERS } from '../tables/limits.ts'
import { CONTEXT_WORDS, FsContextStore } from './fs-context-store.ts'
import { MADE_WORDS, MadeFileSystems } from './made-file-systems.ts'

const [WORD, WORDS] = struct({
  layout: 1,
  serials: CONTAINERS,
  contexts: CONTEXT_WORDS,
  programs: CONTAINERS * STORE_WORDS,
  made: MADE_WORDS,
})

/**
 * The number of the layout of this memory and of all that lies in it: memory of another layout is of no use. A test
 * fails if the layout was changed and the number was not.
 */
const CURRENT = 3

/** In bytes. */
export const PERSISTENT_SIZE = 4 * WORDS

/** Writes into new memory how it is used. */
export function markPersistent(memory: ArrayBuffer): void {
  new Int32Array(memory)[WORD.layout] = CURRENT
}

/** Was this memory used by a program with the same layout? */
export const isPersistent = (memory: ArrayBuffer): boolean =>
  memory.byteLength === PERSISTENT_SIZE && new Int32Array(memory)[WORD.layout] === CURRENT

/**
 * The words of the locks for it, in memory of one engine: what an engine had locked when it ended is free for the next.
 */
interface Locks {
  readonly contexts: Int32Array
  readonly programs: Int32Array
}

/**
 * What containers have got from us with which they go on by another call: contexts and mounts of fsopen(2), device
 * programs, file systems that may be changed. It lies in memory of the keeper, which also keeps the descriptors; so a
 * sequence of calls goes on with the next engine.
 *
 * Invariant: the main thread alone calls the methods, `restore` before any other thread has started. What threads
 * share, they use by `contexts` and `programs`, under the locks of those, and by `made`.
 */
export class PersistentState {
  readonly contexts: FsContextStore
  readonly programs: BpfProgramStore
  readonly made: MadeFileSystems
  /** By container: its serial, for its number is used again by other containers. */
  readonly #serials: Int32Array
  readonly #fdStore: FdStore

  constructor(memory: ArrayBuffer, { contexts, programs }: Locks, fdStore: FdStore) {
    const words = new Int32Array(memory)
    this.#fdStore = fdStore
    this.#serials = words.subarray(WORD.serials, WORD.serials + CONTAINERS)
    this.contexts = new FsContextStore({ words, from: WORD.contexts, locks: contexts }, fdStore)
    this.programs = new BpfProgramStore({ words, from: WORD.programs, locks: programs }, fdStore)
    this.made = new MadeFileSystems(words, WORD.made)
  }

  /** Takes over what the previous engine has left. Before any thread looks at it. */
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

  /** Forgets all other containers. */
  keepOnly(containers: { has(container: number): boolean }): void {
    for (const [container, serial] of this.#serials.entries())
      if (serial !== 0 && !containers.has(container)) this.forget(container)
  }

  forget(container: number): void {
    this.contexts.forget(this.#serials[container]!)
    this.programs.forget(container)
    this.made.forget(container)
    // Last: if this engine ends before, the next one forgets the container.
    this.#serials[container] = 0
  }
}
