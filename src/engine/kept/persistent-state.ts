import { BpfProgramStore } from '../../caller/programs/bpf-program-store.ts'
import type { FdStore, InheritedFds } from '../../caller/programs/fd-store.ts'
import { CONTAINERS } from '../tables/limits.ts'
import { PERSISTENT } from '../tables/persistent-layout.ts'
import { FsContextStore } from './fs-context-store.ts'
import { MadeFileSystems } from './made-file-systems.ts'

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

  /**
   * @param serial the container's serial, which no other container has
   */
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
    // This comes last: if the engine ends before it, the next one forgets the container.
    this.#serials[container] = 0
  }
}
