import { RecordReader } from '../../memories/records.ts'
import type { Registry } from '../containers/registry.ts'
import type { KeeperOptions } from '../process/events.ts'

/** Passes the records of calls from the ring to `onRecord`, and reports how many records were lost. */
export class Records {
  readonly #reader: RecordReader
  readonly #registry: Registry
  readonly #options: KeeperOptions
  #lost = 0

  constructor(memory: ArrayBuffer, registry: Registry, options: KeeperOptions) {
    this.#reader = new RecordReader(memory, options.passesArguments)
    this.#registry = registry
    this.#options = options
  }

  /** @param isOver the engine that wrote them has ended */
  drain(isOver: boolean): void {
    const { onRecord, onEvent } = this.#options
    this.#reader.drain((record, args) => {
      const { container, isOver: hasEnded = false } =
        this.#registry.named({ index: record.container, serial: record.serial }) ?? {}
      onRecord(record, container?.id ?? '', hasEnded, args)
    }, isOver)
    if (this.#reader.lost === this.#lost) return
    onEvent({ type: 'recordsLost', count: this.#reader.lost - this.#lost })
    this.#lost = this.#reader.lost
  }
}
