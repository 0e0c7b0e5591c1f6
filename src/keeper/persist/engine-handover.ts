import { orElse } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { numberOf } from '../../kernel/pidfd.ts'
import { MOUNTERS } from '../../link/limits.ts'
import type { ForNextEngine, ToKeeper } from '../../link/messages.ts'
import type { SharedMemories } from '../../link/spawn-engine.ts'
import type { EngineProcess } from '../engines/engine-process.ts'
import type { Reactor } from '../process/reactor.ts'
import { KeeperFdTable } from './fd-store.ts'
import { openMemory } from './memories.ts'
import type { PersistedState } from './persisted-state.ts'

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
      // Its number is only shown, and without a free descriptor nobody can look.
      const kept = { socket, pidfd, pid: orElse(0, () => numberOf(pidfd)), unwatch }
      this.#all.add(kept)
      return
    }
    socket?.[Symbol.dispose]()
    pidfd?.[Symbol.dispose]()
  }

  get pids(): readonly number[] {
    return [...this.#all].map(({ pid }) => pid).filter((pid) => pid > 0)
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

/** Hands state from one engine to the next: the memories that engines share with us, descriptors and mounters. */
export class EngineHandover {
  readonly memories: Pick<SharedMemories, 'journal' | 'persistent'>
  /** The journal, mapped. */
  readonly memory: ArrayBuffer
  /** The descriptors that are kept for containers. */
  readonly fds: KeeperFdTable
  readonly mounters: MounterFds

  constructor(state: PersistedState, reactor: Reactor) {
    const journal = openMemory(state, 'journal')
    const lasting = openMemory(state, 'lasting')
    this.memories = { journal: journal.fd, persistent: lasting.fd }
    this.memory = journal.memory
    this.fds = new KeeperFdTable(state)
    // The table's places are places in the old memory.
    if (lasting.isNew) this.fds.close()
    this.mounters = new MounterFds(reactor)
  }

  /** Takes a message of the engine. @returns whether the message was about this state */
  hear(message: ToKeeper, fds: readonly Fd[]): message is ForNextEngine {
    if (message.type === 'keep') this.fds.exchange(message, fds)
    else if (message.type === 'drop') this.fds.drop(message.places, fds[0])
    else if (message.type === 'mounter') this.mounters.keep(fds)
    else return false
    return true
  }

  /** Gives everything to a new engine. */
  handOn(tell: EngineProcess['tell']): void {
    this.fds.handOn(tell)
    this.mounters.handOn(tell)
  }

  close(): void {
    this.fds.close()
    this.mounters.close()
    this.memories.journal[Symbol.dispose]()
    this.memories.persistent[Symbol.dispose]()
  }
}
