import { readFileSync } from 'node:fs'
import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import { MOUNTERS } from '../../link/limits.ts'
import type { ForNextEngine, ToKeeper } from '../../link/messages.ts'
import { isPersistent, markPersistent, PERSISTENT_SIZE } from '../../link/persistent-layout.ts'
import type { SharedMemories } from '../../link/spawn-engine.ts'
import type { EngineProcess } from '../engines/engine-process.ts'
import type { Reactor } from '../process/reactor.ts'
import { KeeperFdTable } from './fd-store.ts'
import { openJournal } from './memories.ts'
import type { PersistedState, StateStore } from './persisted-state.ts'

interface Kept {
  readonly socket: Fd
  readonly pidfd: Fd
  readonly pid: number
  readonly unwatch: readonly (() => void)[]
}

/**
 * Holds a socket and a pidfd of each mounter that an engine has started, and gives them to the next engine. When
 * engines end one after the other, each may live shorter than a mounter takes to start. If each engine began with new
 * mounters, no mount would ever be made.
 */
class MounterFds {
  readonly #reactor: Reactor
  readonly #all = new Set<Kept>()

  constructor(reactor: Reactor) {
    this.#reactor = reactor
  }

  /** Takes ownership of a mounter's socket and pidfd. One is missing if the keeper had no free descriptor for it. */
  keep([socket, pidfd]: readonly Fd[]): void {
    if (socket && pidfd && this.#all.size < MOUNTERS) {
      // The engine has shut the socket of a mounter that hangs, which ends nobody knows when.
      const unwatch = [pidfd, socket].map((fd) => this.#reactor.watch(fd, () => this.#drop(kept)))
      const kept = { socket, pidfd, pid: pidOf(pidfd), unwatch }
      this.#all.add(kept)
      return
    }
    socket?.[Symbol.dispose]()
    pidfd?.[Symbol.dispose]()
  }

  get pids(): readonly number[] {
    return [...this.#all].map(({ pid }) => pid)
  }

  handOn(tell: EngineProcess['tell']): void {
    for (const { socket, pidfd } of this.#all) tell({ type: 'mounter' }, [socket, pidfd])
  }

  close(): void {
    for (const each of this.#all) this.#drop(each)
  }

  #drop(kept: Kept): void {
    this.#all.delete(kept)
    for (const unwatch of kept.unwatch) unwatch()
    kept.socket[Symbol.dispose]()
    kept.pidfd[Symbol.dispose]()
  }
}

/** @see proc_pid_fdinfo(5) "pidfds" */
function pidOf(pidfd: Fd): number {
  return Number(/^Pid:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd.raw}`, 'latin1'))?.[1] ?? 0)
}

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
