import { NOTIF } from '../../abi/seccomp.ts'
import type { Registers } from '../../calls/caller.ts'

const LOW = 0xffff_ffffn

/** Reads the registers of a call in its slot. Each thread has one such object and moves it from slot to slot. */
export class SlotRegisters implements Registers {
  readonly #view: DataView
  #at = 0
  /** The word size of the call's architecture. */
  bits: 32 | 64 = 64

  constructor(view: DataView) {
    this.#view = view
  }

  /** @param bits word size of the caller's architecture: the upper half of a 32-bit caller's registers means nothing */
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
