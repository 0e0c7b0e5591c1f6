import { isPersistent, markPersistent, PERSISTENT_SIZE } from '../../engine/kept/persistent-state.ts'
import type { ToEngineHandover, ToKeeper } from '../../engine/protocol/messages.ts'
import type { SharedMemories } from '../../engine/protocol/spawn-engine.ts'
import { Fd } from '../../kernel/fd.ts'
import { map, memfd } from '../../kernel/shared-memory.ts'
import type { EngineLink } from '../engines/engine-process.ts'
import type { Reactor } from '../process/reactor.ts'
import { Vault } from './fd-store.ts'
import { KeptMounters } from './mounter-fds.ts'
import { keptJournal } from './open-journal.ts'
import type { Estate, Heir } from './persisted-state.ts'

/** What goes from one engine to the next: the memories that they share with the keeper, descriptors, and mounters. */
export class Heritage {
  readonly memories: SharedMemories
  /** The journal. */
  readonly memory: ArrayBuffer
  readonly #estate: Estate
  readonly #vault: Vault
  readonly #mounters: KeptMounters

  /** @param records as in `Limits` @param fault told what of an earlier keeper cannot be used */
  constructor(estate: Estate, reactor: Reactor, records: number, fault: (message: string) => void) {
    this.#estate = estate
    const { journal, memory } = keptJournal(estate, records, fault)
    const { lasting, isNew } = keptLasting(estate)
    this.memories = { journal, persistent: lasting }
    this.memory = memory
    this.#vault = new Vault(estate)
    // It tells of what is in the memory of before.
    if (isNew) this.#vault.close()
    this.#mounters = new KeptMounters(reactor)
  }

  /** @returns whether it was about this */
  hear(message: ToKeeper, fds: readonly Fd[]): message is ToEngineHandover {
    if (message.type === 'keep') this.#vault.keep(message.place, message.container, fds[0])
    else if (message.type === 'drop') this.#vault.drop(message.places, fds[0])
    else if (message.type === 'mounter') this.#mounters.keep(fds)
    else return false
    return true
  }

  /** To a new engine. */
  handOn(tell: EngineLink['tell']): void {
    this.#vault.handOn(tell)
    this.#mounters.handOn(tell)
  }

  /** Leaves all of it to the next keeper. */
  store(heir: Heir): void {
    this.#vault.store(this.#estate, heir)
  }

  takeBack(): void {
    this.#vault.takeBack(this.#estate)
  }

  close(): void {
    this.#vault.close()
    this.#mounters.close()
    this.memories.journal[Symbol.dispose]()
    this.memories.persistent[Symbol.dispose]()
  }
}

function keptLasting(estate: Estate): { readonly lasting: Fd; readonly isNew: boolean } {
  using kept = estate.lasting
  if (kept && isPersistent(map(kept))) return { lasting: new Fd(kept.release()), isNew: false }
  const lasting = memfd('intercede-lasting', PERSISTENT_SIZE)
  markPersistent(map(lasting))
  estate.keepLasting(lasting)
  return { lasting, isNew: true }
}
