import type { Tid } from '../../abi/brand.ts'
import { NOTIF } from '../../abi/seccomp.ts'
import type { ContainerNumbers } from '../../caller/identity/container.ts'
import type { Slots } from '../../engine/journal/slots.ts'
import { CountWriter } from '../../memories/count-writer.ts'
import type { ArgumentMode } from '../../policy/config.ts'

/** Counts the calls that are left to the kernel while there is no engine. An engine counts all others. */
export class PassedCalls {
  readonly #slots: Slots
  readonly #writer: CountWriter
  readonly #hasArguments: boolean

  constructor(slots: Slots, counts: ArrayBuffer, mode: ArgumentMode = 'all') {
    this.#slots = slots
    this.#writer = new CountWriter(counts)
    this.#hasArguments = mode !== 'none'
  }

  /**
   * @param slot the slot of the call
   */
  count({ index: container, serial }: ContainerNumbers, slot: number): void {
    const { view, words } = this.#slots
    const registers = this.#hasArguments ? words : undefined
    this.#writer.count(
      {
        ...{ container, serial, verdict: 'continue', errno: 0, reason: 'noEngine', a: 0, b: 0, microseconds: 0 },
        nr: view.getInt32(slot + NOTIF.nr, true),
        arch: view.getUint32(slot + NOTIF.arch, true),
        tid: view.getUint32(slot + NOTIF.tid, true) as Tid,
        time: Date.now(),
      },
      { registers, from: (slot + NOTIF.args) >> 2, texts: { bytes: new Uint8Array(), length: 0 } },
    )
  }
}
