import type { Container, ContainerNumbers } from '../../caller/identity/container.ts'
import { holderExists } from '../../caller/programs/held-fds.ts'
import { now } from '../../kernel/clock.ts'
import { Fd } from '../../kernel/fd.ts'
import type { ProgramEnd } from '../../link/messages.ts'
import { OneShot } from '../../shared/words.ts'
import { ContainerExecs } from '../execs/container-execs.ts'
import { DeviceProbes } from '../facts/device-probes.ts'
import { encodeRules } from '../facts/device-rules-cache.ts'
import { FairTurns } from '../helpers/fair-turns.ts'
import type { MounterProcess } from '../helpers/mounter-process.ts'
import { Mounters } from '../helpers/mounters.ts'
import { Walkers } from '../helpers/walkers.ts'
import type { FsContextStore } from '../kept/fs-context-store.ts'
import type { SharedState } from '../thread/shared-state.ts'
import type { HelperRequest } from '../thread/thread-messages.ts'

export interface HelperDependencies {
  readonly contexts: FsContextStore
  readonly onFault: (message: string) => void
  /** Called with each mounter that was started. */
  readonly onMounter: (mounter: MounterProcess) => void
  /** Stops serving a listener, although tasks may be left. */
  readonly drop: (listener: number) => void
  /** Called when a program in a container failed. */
  readonly onProgram: (container: ContainerNumbers, end: ProgramEnd) => void
}

/**
 * When contexts of fsopen(2) are looked for whose process has ended: soon after the newest was opened, then later and
 * later. What a process held for a time is looked for at most a quarter of that time later, for a mkfs after a mount
 * that failed. rests: how many times as long as a look took is waited at least, as containers decide how often there
 * is a new one.
 */
const EXPIRE = { firstMs: 2, growth: 1.25, lastMs: 5000, rests: 20 }

/**
 * Serves, in the main thread, the requests of the serving threads which need another process or all containers:
 * mounters, walkers, probes of device rules, programs. The threads' side is `ThreadServices`.
 */
export class HelperRequests {
  readonly #contexts: FsContextStore
  readonly walkers: Walkers
  readonly mounters: Mounters
  readonly execs: ContainerExecs
  readonly probes: DeviceProbes
  readonly #turns: FairTurns
  #expiring: NodeJS.Timeout | undefined
  /** In how many milliseconds contexts were to be looked for next; undefined if there are none. */
  #expiringIn: number | undefined
  /** The shortest time to wait now, in milliseconds. */
  #soonest: number = EXPIRE.firstMs

  constructor(state: SharedState, { contexts, onFault, onMounter, onProgram, drop }: HelperDependencies) {
    this.#contexts = contexts
    const { startHelper: start, startProgram } = state.spawnGuard
    this.walkers = new Walkers(state.walkers, state.spawnGuard, onFault)
    this.mounters = new Mounters({ start, keep: onMounter, fault: onFault })
    this.execs = new ContainerExecs({ start: startProgram, drop, onProgram, onFault })
    this.#turns = new FairTurns((container, ms) => state.charge(container, ms))
    const { spawnGuard: guard, deviceRules: cache, rulesSeed: seed } = state
    this.probes = new DeviceProbes({ guard, turns: this.#turns, cache, seed })
  }

  forget(container: Container): void {
    this.probes.forget(container)
    this.walkers.forget(container.index)
    this.execs.forget(container)
  }

  /** Serves a request. @param container the container of an `exec` or `device` request, if it still exists */
  help(asked: HelperRequest, container?: Container): void {
    if ('container' in asked) this.#turns.take(asked.container, () => this.#help(asked, container))
    else this.#help(asked, container)
  }

  #help(asked: HelperRequest, container: Container | undefined): void {
    switch (asked.type) {
      case 'device':
        void this.#tryDevice(container, asked)
        break
      case 'lend':
        this.mounters.lend(asked.serial, (socket) => new OneShot(asked.answer).set(socket ?? -1))
        break
      case 'giveBack':
        this.mounters.giveBack(asked.socket, asked.state)
        break
      case 'exec':
        this.execs.start(container, asked)
        break
      case 'execOver':
        this.execs.over(asked.job, asked.failed)
        break
      case 'context':
        if ((this.#expiringIn ?? Number.POSITIVE_INFINITY) > this.#soonest) this.#expireIn(this.#soonest)
        break
      case 'discard':
        this.mounters.discard(asked.raws.map((raw) => new Fd(raw)))
        break
      case 'walker':
        this.walkers.start(asked.container)
        break
      case 'walkerStuck':
        this.walkers.abandon(asked.container, asked.walker, asked.hasEnded)
    }
  }

  async #tryDevice(container: Container | undefined, asked: Extract<HelperRequest, { type: 'device' }>): Promise<void> {
    const rules = container && (await this.probes.ask(container, asked))
    new OneShot(asked.answer).set(encodeRules(rules))
  }

  #expireIn(ms: number): void {
    clearTimeout(this.#expiring)
    this.#expiringIn = ms
    this.#expiring = setTimeout(() => this.#expireContexts(ms), ms)
  }

  /**
   * Closes contexts whose process has ended; the timer ends with the last context, so an idle engine has none. What a
   * living process has closed is found by the container's next call that mounts: this thread must wait for no process.
   */
  #expireContexts(waited: number): void {
    this.#expiringIn = undefined
    const begun = now()
    this.#contexts.tidy(undefined, holderExists)
    this.#soonest = Math.max(EXPIRE.firstMs, EXPIRE.rests * (now() - begun))
    const later = Math.min(waited * EXPIRE.growth, EXPIRE.lastMs)
    if (this.#contexts.size > 0) this.#expireIn(Math.max(later, this.#soonest))
  }
}
