import type { ReasonCode } from '../../calls/reasons.ts'
import type { CallRecord } from '../../calls/record.ts'
import { RecordReader } from '../../memories/records.ts'
import type { Policy } from '../../policy/policy.ts'
import type { Registry } from '../containers/registry.ts'
import type { KeeperOptions } from '../process/events.ts'

const OF_PROGRAMS: ReadonlySet<ReasonCode> = new Set(['fuseNoProgram', 'fuseNotInImage'])

/** Passes the records of calls from the ring to `onRecord`, and reports how many records were lost. */
export class Records {
  readonly #reader: RecordReader
  readonly #registry: Registry
  readonly #options: KeeperOptions
  #lost = 0

  constructor(memory: ArrayBuffer, registry: Registry, options: KeeperOptions) {
    this.#reader = new RecordReader(memory)
    this.#registry = registry
    this.#options = options
  }

  /** @param isOver the engine that wrote them has ended */
  drain(isOver: boolean): void {
    const { onRecord, onEvent } = this.#options
    this.#reader.drain((record) => {
      const { container, isOver: hasEnded = false } =
        this.#registry.named({ index: record.container, serial: record.serial }) ?? {}
      onRecord(addProgram(record, container?.policy), container?.id ?? '', hasEnded)
    }, isOver)
    if (this.#reader.lost === this.#lost) return
    onEvent({ type: 'recordsLost', count: this.#reader.lost - this.#lost })
    this.#lost = this.#reader.lost
  }
}

/** Adds the name of the FUSE program that a record is about: the ring holds only its number in the policy. */
function addProgram(record: CallRecord, policy: Policy | undefined): CallRecord {
  if (!OF_PROGRAMS.has(record.reason)) return record
  const program = [...(policy?.mount?.fuse.values() ?? [])][record.a - 1]
  return program === undefined ? record : { ...record, named: program }
}
