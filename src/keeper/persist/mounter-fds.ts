import { MOUNTERS } from '../../engine/helpers/mounters.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { EngineProcess } from '../engines/engine-process.ts'
import type { Reactor } from '../process/reactor.ts'

interface Kept {
  readonly socket: Fd
  readonly pidfd: Fd
  readonly unwatch: () => void
}

/**
 * Holds what leads to the mounters that engines have started, and gives it to the next engine: a mounter takes longer to start
 * than an engine may live when one after the other is ended, and then no mount would ever be done. Nothing is asked of them here.
 */
export class MounterFds {
  readonly #reactor: Reactor
  readonly #all = new Set<Kept>()

  constructor(reactor: Reactor) {
    this.#reactor = reactor
  }

  /** @param fds its socket and its pidfd, owned here; one of them is missing if we had no descriptor free for it */
  keep([socket, pidfd]: readonly Fd[]): void {
    if (socket && pidfd && this.#all.size < MOUNTERS) {
      const kept = { socket, pidfd, unwatch: this.#reactor.watch(pidfd, () => this.#drop(kept)) }
      this.#all.add(kept)
      return
    }
    socket?.[Symbol.dispose]()
    pidfd?.[Symbol.dispose]()
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
