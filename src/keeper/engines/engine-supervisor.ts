import { now } from '../../kernel/clock.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import type { Heartbeat } from '../../link/journal.ts'
import type { ToEngine, ToKeeper } from '../../link/messages.ts'
import type { EngineOptions, SharedMemories } from '../../link/spawn-engine.ts'
import type { RestartCause } from '../../memories/daemon-totals.ts'
import type { Reactor } from '../process/reactor.ts'
import { EngineProcess } from './engine-process.ts'
import { RestartBackoff } from './restart-backoff.ts'

/**
 * The number of looks in a row, one a second, without a heartbeat before the engine is killed. Looks count instead of
 * seconds, because a suspended or busy machine delays both looks and beats. An engine that is stopped (SIGSTOP) for
 * less time continues.
 */
const SILENT_LOOKS = 10
/** The number of looks at an engine that works but does not become ready, before it is killed. */
const STARTING_LOOKS = 180

export interface SupervisorOptions {
  readonly reactor: Reactor
  readonly memories: SharedMemories
  readonly beat: Heartbeat
  readonly engine: Omit<EngineOptions, 'build'>
  /** First pause of `RestartBackoff`, in milliseconds. */
  readonly pause: number | undefined
  /** Gives a new engine the descriptors and mounters of the previous engine. */
  handOn(tell: EngineProcess['tell']): void
  /** Tells a new engine of all containers and listeners. */
  inventory(tell: EngineProcess['tell']): void
  hear(message: ToKeeper, fds: readonly Fd[]): void
  /** Called at the end of an engine. Calls in flight wait for the next engine, which starts after `pause` ms. */
  ended(how: string, cause: RestartCause, pause: number): void
  /** Called before an engine starts: the keeper must not receive calls from then on. */
  starting(): void
  /**
   * Replaces this program if our files were replaced, because then no engine of our version can start.
   *
   * @returns undefined if the files are ours; otherwise why this program could not be replaced
   */
  follow?: (() => Promise<string> | undefined) | undefined
}

/**
 * Starts one engine after the other: when an engine has ended, the next one starts and settles the calls in flight.
 *
 *   state      event                                     next       method
 *   starting   the engine is ready                       serving    #hear
 *   starting,  the engine ends or cannot be started      starting   #ended, #start
 *   serving    the same, too often for RestartBackoff    pausing    #ended
 *              our files are replaced when it ends       following  #start
 *              hold                                      held       hold: the engine is killed
 *              SILENT_LOOKS without a sign of life       -          look: the engine is killed, and so ends
 *   pausing    the pause is over                         starting   #start
 *              hold                                      held       hold
 *   following  the new program refuses                   pausing or  #ended: counted as a failure of an engine
 *                                                        following
 *              hold                                      held       hold: the new program has agreed
 *   held       resume: it could not be executed          starting   resume
 *   any        close                                     closed     close
 */
export class EngineSupervisor {
  readonly #options: SupervisorOptions
  readonly #restarts: RestartBackoff
  #link: EngineProcess | undefined
  #isReady = false
  /** Whether the engine was killed because it gave no heartbeat. */
  #hasHung = false
  #lifeSign = 0
  #silentLooks = 0
  #startingLooks = 0
  #timer: NodeJS.Timeout | undefined
  /** The number of the last start. */
  #attempt = 0
  #isClosed = false
  /** The callbacks that wait for the end of the last engine; defined in the state held. */
  #held: (() => void)[] | undefined

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#restarts = new RestartBackoff(options.pause)
    this.#start(false)
  }

  get pid(): number | undefined {
    return this.#link?.pid
  }

  /** The process id of the engine that serves; undefined while none does. */
  get servingPid(): number | undefined {
    return this.#isReady ? this.pid : undefined
  }

  /** @returns false if there is no engine now */
  tell(message: ToEngine, fds: readonly Handle[] = []): boolean {
    this.#link?.tell(message, fds)
    return this.#link !== undefined
  }

  /**
   * Notices the end of an engine, and kills an engine without a heartbeat. Before it is ready, an engine has none. It
   * counts as working while it uses the processor, however slow the machine is. To be called once a second.
   */
  look(): void {
    this.#link?.look()
    // The next engine must not count as hung for the silence before it.
    if (!this.#link) return
    const lifeSign = this.#isReady ? this.#options.beat.count : this.#link.processorTime
    this.#silentLooks = lifeSign === this.#lifeSign ? this.#silentLooks + 1 : 0
    this.#lifeSign = lifeSign
    this.#startingLooks = this.#isReady ? 0 : this.#startingLooks + 1
    if (this.#silentLooks < SILENT_LOOKS && this.#startingLooks < STARTING_LOOKS) return
    this.#silentLooks = 0
    this.#startingLooks = 0
    this.#hasHung = true
    this.#link.kill()
  }

  /** Kills the engine, and starts no other engine until `resume`. @returns once the engine has ended */
  hold(): Promise<void> {
    clearTimeout(this.#timer)
    return new Promise((resolve) => {
      this.#held = [...(this.#held ?? []), resolve]
      if (this.#link) this.#link.kill()
      else resolve()
    })
  }

  resume(): void {
    this.#held = undefined
    this.#options.starting()
    this.#launch(false)
  }

  /** @param serves whether the engine may have received calls */
  close(serves: boolean): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#link?.close(serves)
  }

  /** @param failed whether the previous engine failed, instead of being killed */
  #start(failed: boolean): void {
    const { starting, follow } = this.#options
    const attempt = ++this.#attempt
    starting()
    this.#silentLooks = 0
    this.#startingLooks = 0
    const following = follow?.()
    if (!following) this.#launch(failed)
    else
      void following.then((why) =>
        this.#failed(attempt, `could not be started, because the files belong to another version: ${why}`),
      )
  }

  #launch(failed: boolean): void {
    const { reactor, memories, engine, handOn, inventory } = this.#options
    const attempt = ++this.#attempt
    this.#isReady = false
    let link: EngineProcess
    try {
      link = new EngineProcess(reactor, memories, engine, {
        hear: (...said) => this.#hear(...said),
        ended: (how, cause) => this.#ended(how, cause),
      })
    } catch (error) {
      // A shortage of descriptors, for example, may be over after a pause.
      setImmediate(() => this.#failed(attempt, `could not be started: ${(error as Error).message}`))
      return
    }
    this.#link = link
    const tell: EngineProcess['tell'] = (message, fds) => link.tell(message, fds)
    handOn(tell)
    link.tell({ type: 'inherit', failed })
    inventory(tell)
    link.tell({ type: 'all' })
  }

  /** A start has failed. Another one may have begun meanwhile: two engines must never serve. */
  #failed(attempt: number, how: string): void {
    if (attempt === this.#attempt && !this.#link) this.#ended(how, 'unstartable')
  }

  #hear(message: ToKeeper, fds: readonly Fd[]): void {
    if (message.type === 'ready') this.#isReady = true
    this.#options.hear(message, fds)
  }

  #ended(how: string, cause: RestartCause): void {
    this.#link = undefined
    if (this.#held) {
      for (const resolve of this.#held) resolve()
      return
    }
    // A kill says nothing about what the engine would have done.
    const failed = cause !== 'killed' && cause !== 'hung'
    const pause = this.#restarts.after({ at: now(), failed, wasReady: this.#isReady })
    // Files that are refused make no engine, which would say so.
    this.#isReady = false
    if (this.#hasHung) this.#options.ended(`hung for ten seconds and ${how}`, 'hung', pause)
    else this.#options.ended(how, cause, pause)
    this.#hasHung = false
    if (this.#isClosed) return
    if (pause === 0) this.#start(failed)
    else this.#timer = setTimeout(() => this.#start(failed), pause)
  }
}
