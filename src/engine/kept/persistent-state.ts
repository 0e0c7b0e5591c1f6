import { BpfProgramStore } from '../../caller/programs/bpf-program-store.ts'
import type { FdStore, InheritedFds } from '../../caller/programs/fd-store.ts'
import { CONTAINERS } from '../tables/limits.ts'
import { PERSISTENT } from '../tables/persistent-layout.ts'
import { FsContextStore } from './fs-context-store.ts'
import { MadeFileSystems } from './made-file-systems.ts'

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
    this.#serials = words.subarray(PERSISTENT.serials, PERSISTENT.serials + CONTAINERS)
    this.contexts = new FsContextStore({ words, from: PERSISTENT.contexts, locks: contexts }, fdStore)
    this.programs = new BpfProgramStore({ words, from: PERSISTENT.programs, locks: programs }, fdStore)
    this.made = new MadeFileSystems(words, PERSISTENT.made)
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
