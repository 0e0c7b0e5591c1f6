import { NOTIF } from '../../abi/seccomp.ts'
import type { Registers } from '../../calls/caller.ts'

const LOW = 0xffff_ffffn

/** The registers of the call in one slot, read where the kernel wrote them. One per thread, moved from slot to slot. */
export class SlotRegisters implements Registers {
  readonly #view: DataView
  #at = 0
  /** Of the architecture of the call. */
  bits: 32 | 64 = 64

  constructor(view: DataView) {
    this.#view = view
  }

  /** @param bits of the caller's architecture: a 32-bit caller's registers may carry anything in their upper half */
  moveTo(slot: number, bits: 32 | 64): void {
    this.#at = slot + NOTIF.args
    this.bits = bits
  }

  int(index: number): number {
    return this.#view.getInt32(this.#at + 8 * index, true)
  }

  uint(index: number): number {
    return this.#view.getUint32(this.#at + 8 * index, true)
  }

  pointer(index: number): bigint {
    const register = this.#view.getBigUint64(this.#at + 8 * index, true)
    return this.bits === 64 ? register : register & LOW
  }
}
