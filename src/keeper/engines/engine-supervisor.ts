import type { Heartbeat } from '../../engine/journal/heartbeat.ts'
import type { ToEngine, ToKeeper } from '../../engine/protocol/messages.ts'
import type { EngineOptions, SharedMemories } from '../../engine/protocol/spawn-engine.ts'
import { now } from '../../kernel/clock.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { Reactor } from '../process/reactor.ts'
import { EngineProcess } from './engine-process.ts'
import { RestartBackoff } from './restart-backoff.ts'

/**
 * So many looks, one a second, may find no beat: a machine that is suspended or busy delays ours as well. An engine that
 * somebody stops for less than that goes on where it was.
 */
const SILENT_LOOKS = 10

export interface SupervisorOptions {
  readonly reactor: Reactor
  readonly memories: SharedMemories
  readonly beat: Heartbeat
  readonly engine: Omit<EngineOptions, 'build'>
  /** Milliseconds, see `RestartBackoff`. */
  readonly pause: number | undefined
  /** Gives a new engine what the one before it had. */
  handOn(tell: EngineProcess['tell']): void
  /** Tells it all that it shall serve. */
  inventory(tell: EngineProcess['tell']): void
  hear(message: ToKeeper, fds: readonly Fd[]): void
  /** The calls in flight wait for the next engine, which starts after `pause` milliseconds. */
  ended(how: string, pause: number): void
  /** An engine is about to be started: nobody else may receive calls any more. */
  starting(): void
  /**
   * If no engine of ours can be started, for the files were replaced: goes on as the program that they are now.
   *
   * @returns why that cannot be
   */
  follow?: (() => Promise<string> | undefined) | undefined
}

/** One engine after the other: as soon as one has ended, the next one starts, and settles what that left. */
export class EngineSupervisor {
  readonly #options: SupervisorOptions
  readonly #restarts: RestartBackoff
  #link: EngineProcess | undefined
  #isReady = false
  #beats = 0
  #silent = 0
  #timer: NodeJS.Timeout | undefined
  #isClosed = false
  /** Called when there is no engine any more, and will be none. */
  #held: (() => void)[] | undefined

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#restarts = new RestartBackoff(options.pause)
    this.#start(false)
  }

  get pid(): number | undefined {
    return this.#link?.pid
  }

  tell(message: ToEngine, fds: readonly Handle[] = []): void {
    this.#link?.tell(message, fds)
  }

  /** Notices the end of an engine, and ends one that has given no beat for long. To be called once a second. */
  look(): void {
    this.#link?.look()
    const { count } = this.#options.beat
    this.#silent = count === this.#beats ? this.#silent + 1 : 0
    this.#beats = count
    if (this.#silent < SILENT_LOOKS) return
    this.#silent = 0
    this.#link?.kill()
  }

  /** Ends the engine. @returns once it has ended; no other one is started until `resume` */
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

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#link?.close()
  }

  /** @param failed how the one before it ended */
  #start(failed: boolean): void {
    const { starting, follow } = this.#options
    starting()
    this.#isReady = false
    this.#silent = 0
    const following = follow?.()
    if (!following) this.#launch(failed)
    else
      void following.then(
        (why) => this.#link ?? this.#ended(`could not be started, for the files are of another program: ${why}`, true),
      )
  }

  #launch(failed: boolean): void {
    const { reactor, memories, engine, handOn, inventory } = this.#options
    let link: EngineProcess
    try {
      link = new EngineProcess(reactor, memories, engine, {
        hear: (...said) => this.#hear(...said),
        ended: (how, byItself) => this.#ended(how, byItself),
      })
    } catch (error) {
      // No descriptor is free, for example: there may be one after the pause.
      setImmediate(() => this.#ended(`could not be started: ${(error as Error).message}`, true))
      return
    }
    this.#link = link
    const tell: EngineProcess['tell'] = (message, fds) => link.tell(message, fds)
    handOn(tell)
    link.tell({ type: 'inherit', failed })
    inventory(tell)
    link.tell({ type: 'all' })
  }

  #hear(message: ToKeeper, fds: readonly Fd[]): void {
    if (message.type === 'ready') this.#isReady = true
    this.#options.hear(message, fds)
  }

  #ended(how: string, failed: boolean): void {
    this.#link = undefined
    if (this.#held) {
      for (const resolve of this.#held) resolve()
      return
    }
    const pause = this.#restarts.after({ at: now(), failed, wasReady: this.#isReady })
    this.#options.ended(how, pause)
    if (this.#isClosed) return
    if (pause === 0) this.#start(failed)
    else this.#timer = setTimeout(() => this.#start(failed), pause)
  }
}
