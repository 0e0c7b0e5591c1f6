import type { ForNextEngine, ToKeeper } from '../../engine/protocol/messages.ts'
import type { SharedMemories } from '../../engine/protocol/spawn-engine.ts'
import { isPersistent, markPersistent, PERSISTENT_SIZE } from '../../engine/tables/persistent-layout.ts'
import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import type { EngineProcess } from '../engines/engine-process.ts'
import type { Reactor } from '../process/reactor.ts'
import { KeeperFdTable } from './fd-store.ts'
import { MounterFds } from './mounter-fds.ts'
import { openJournal } from './open-journal.ts'
import type { PersistedState, StateStore } from './persisted-state.ts'

/** Hands state from one engine to the next: the memories that engines share with us, descriptors and mounters. */
export class EngineHandover {
  readonly memories: Pick<SharedMemories, 'journal' | 'persistent'>
  /** The journal, mapped. */
  readonly memory: ArrayBuffer
  /** The journal of an earlier version, which contains the records too. */
  readonly before: ArrayBuffer | undefined
  readonly #state: PersistedState
  readonly #fds: KeeperFdTable
  readonly #mounters: MounterFds

  /**
   * @param fault called with what cannot be used of the previous keeper's state
   */
  constructor(state: PersistedState, reactor: Reactor, fault: (message: string) => void) {
    this.#state = state
    const { journal, memory, before } = openJournal(state, fault)
    const { persistent, isNew } = openPersistent(state)
    this.memories = { journal, persistent }
    this.memory = memory
    this.before = before
    this.#fds = new KeeperFdTable(state)
    // The table's places are places in the old memory.
    if (isNew) this.#fds.close()
    this.#mounters = new MounterFds(reactor)
  }

  /** Takes a message of the engine. @returns whether the message was about this state */
  hear(message: ToKeeper, fds: readonly Fd[]): message is ForNextEngine {
    if (message.type === 'keep') this.#fds.exchange(message, fds)
    else if (message.type === 'drop') this.#fds.drop(message.places, fds[0])
    else if (message.type === 'mounter') this.#mounters.keep(fds)
    else return false
    return true
  }

  /** Gives everything to a new engine. */
  handOn(tell: EngineProcess['tell']): void {
    this.#fds.handOn(tell)
    this.#mounters.handOn(tell)
  }

  /** For each descriptor that is kept for a container: the container's number. */
  get kept(): readonly number[] {
    return this.#fds.containers
  }

  /** The process ids of the mounters. */
  get mounters(): readonly number[] {
    return this.#mounters.pids
  }

  /** Stores the descriptors for the next keeper. */
  store(to: StateStore): void {
    this.#fds.store(this.#state, to)
  }

  /** Undoes `store`. */
  takeBack(): void {
    this.#fds.takeBack(this.#state)
  }

  close(): void {
    this.#fds.close()
    this.#mounters.close()
    this.memories.journal[Symbol.dispose]()
    this.memories.persistent[Symbol.dispose]()
  }
}

function openPersistent(state: PersistedState): { readonly persistent: Fd; readonly isNew: boolean } {
  using kept = state.persistent
  if (kept && isPersistent(map(kept))) return { persistent: new Fd(kept.release()), isNew: false }
  const persistent = memfd('intercede-lasting', PERSISTENT_SIZE)
  markPersistent(map(persistent))
  state.keepPersistent(persistent)
  return { persistent, isNew: true }
}
