import type { Limits } from '../../policy/limits.ts'
import type { DaemonFacts } from '../feed/feed.ts'
import { Readers } from '../feed/readers.ts'
import { LIMIT_PER_CONTAINER } from '../persist/fd-store.ts'
import type { KeeperEvent, Reloaded } from '../process/events.ts'
import type { Reactor } from '../process/reactor.ts'
import { Control, type ControlDependencies } from './control.ts'

const limitsOf = ({ callsPerContainer, listenersPerContainer }: Limits): DaemonFacts['limits'] => ({
  callsPerContainer,
  listenersPerContainer,
  kept: LIMIT_PER_CONTAINER,
})

/** The keeper's clients other than runtimes: readers, which see what happens, and administrators, who give orders. */
export class Outlets {
  readonly readers: Readers
  readonly control: Control
  readonly #dependencies: Omit<ControlDependencies, 'feed'>

  constructor(dependencies: Omit<ControlDependencies, 'feed'>, all: Limits) {
    this.#dependencies = dependencies
    const { containerLabel = false, forUser = false, configPath, arguments: mode = 'all' } = dependencies.options
    this.readers = new Readers(
      dependencies.state,
      { records: all.records, arguments: mode },
      {
        ...{ containerLabel, forUser, limits: limitsOf(all), configPath },
      },
    )
    this.control = new Control({ ...dependencies, feed: this.readers.feed })
  }

  /** Applies another configuration. @throws {Error} as `Control.apply` */
  reload(all: Limits, containerLabel: boolean): Promise<Reloaded> {
    const changed = this.control.apply()
    this.readers.feed.stands({ containerLabel, limits: limitsOf(all) })
    return changed
  }

  /** Notes an event before anything else gets it. */
  note(event: KeeperEvent): void {
    this.readers.feed.note(event)
    this.control.note(event)
  }

  /** Lets clients connect, once the containers of the previous keeper are known. @throws {Error} if a path is in use */
  listen(reactor: Reactor): void {
    const { options, registry } = this.#dependencies
    try {
      this.readers.listen(reactor, options.feedSocketPath, registry.entries)
      this.control.listen(reactor, options.controlSocketPath)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** An engine serves from now on. */
  serves(engine: number | undefined): void {
    this.readers.feed.serves(engine)
    this.control.serves()
  }

  engineEnded(): void {
    this.readers.feed.engineEnded()
    this.control.engineEnded()
  }

  close(): void {
    this.control.close()
    this.readers.close()
  }
}
