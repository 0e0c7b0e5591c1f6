import { readFileSync } from 'node:fs'
import { MOUNTERS } from '../../engine/tables/limits.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { EngineProcess } from '../engines/engine-process.ts'
import type { Reactor } from '../process/reactor.ts'

interface Kept {
  readonly socket: Fd
  readonly pidfd: Fd
  readonly pid: number
  readonly unwatch: () => void
}

/**
 * Holds a socket and a pidfd of each mounter that an engine has started, and gives them to the next engine. When
 * engines end one after the other, each may live shorter than a mounter takes to start. If each engine began with new
 * mounters, no mount would ever be made.
 */
export class MounterFds {
  readonly #reactor: Reactor
  readonly #all = new Set<Kept>()

  constructor(reactor: Reactor) {
    this.#reactor = reactor
  }

  /** Takes ownership of a mounter's socket and pidfd. One is missing if the keeper had no free descriptor for it. */
  keep([socket, pidfd]: readonly Fd[]): void {
    if (socket && pidfd && this.#all.size < MOUNTERS) {
      const kept = { socket, pidfd, pid: pidOf(pidfd), unwatch: this.#reactor.watch(pidfd, () => this.#drop(kept)) }
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
    kept.unwatch()
    kept.socket[Symbol.dispose]()
    kept.pidfd[Symbol.dispose]()
  }
}

/** @see proc_pid_fdinfo(5) "pidfds" */
function pidOf(pidfd: Fd): number {
  return Number(/^Pid:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd.raw}`, 'latin1'))?.[1] ?? 0)
}
