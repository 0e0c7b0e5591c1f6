import { hash } from 'node:crypto'
import type { Dev } from '../../abi/brand.ts'

/**
 * The seed of the keys of `DeviceRulesCache`: random and the same for all threads, so that no container can choose
 * groups that collide.
 */
export const SEED_BYTES = 16
const DEV_AT = SEED_BYTES
const TEXT_AT = DEV_AT + 4
/** In bytes: the text has a line for each hierarchy, of up to 4 KiB. */
const TEXT_LIMIT = 64 * 1024

/** Makes keys of a device and the groups that rule it. Invariant: an object belongs to one thread. */
export class RulesKeys {
  readonly #room = Buffer.alloc(TEXT_AT + TEXT_LIMIT)
  /** Where the text of groups is written before `keyOf` is called. */
  readonly text = this.#room.subarray(TEXT_AT)

  constructor(seed: Uint8Array) {
    this.#room.set(seed)
  }

  /** @param length of the text */
  keyOf(dev: Dev, length: number): Buffer {
    this.#room.writeUInt32LE(dev, DEV_AT)
    return hash('sha256', this.#room.subarray(0, TEXT_AT + length), 'buffer')
  }
}
