import { SECCOMP_NOTIF_SIZE } from '../../abi/seccomp.ts'
import { SLOT, SLOT_SIZE, SLOTS, STATE } from '../../calls/slot.ts'
import { HEADER_SIZE } from './layout.ts'

const LAST = SLOTS - 1

/** From where a call comes, by the keeper's numbers, and by which thread. */
interface Origin {
  readonly listener: number
  readonly container: number
  readonly thread: number
}

/**
 * The slots of calls in flight. Only the leader takes one, but for the last, which is for who attends a listener; whoever
 * served the call frees it.
 */
export class Slots {
  readonly view: DataView
  readonly #words: Int32Array
  readonly #bytes: Uint8Array
  readonly #notifications: (Uint8Array | undefined)[] = []
  #cursor = 0

  constructor(memory: ArrayBuffer) {
    this.view = new DataView(memory)
    this.#words = new Int32Array(memory)
    this.#bytes = new Uint8Array(memory)
  }

  /**
   * Takes a free slot, its notification zeroed as the kernel demands, and says whose call is being received: an engine that
   * ends from here on, at any instruction, has left everything that the next one must know.
   *
   * @returns its offset; -1 if all are taken
   */
  take(origin: Origin): number {
    for (let tries = 0; tries < LAST; tries++) {
      this.#cursor = (this.#cursor + 1) % LAST
      const at = HEADER_SIZE + this.#cursor * SLOT_SIZE
      if (this.state(at) === STATE.free) return this.#open(at, origin)
    }
    return -1
  }

  /** As `take`, of the last slot. */
  takeLast(origin: Origin): number {
    const at = HEADER_SIZE + LAST * SLOT_SIZE
    return this.state(at) === STATE.free ? this.#open(at, origin) : -1
  }

  get isLastTaken(): boolean {
    return this.state(HEADER_SIZE + LAST * SLOT_SIZE) !== STATE.free
  }

  #open(at: number, { listener, container, thread }: Origin): number {
    this.#bytes.fill(0, at, at + SLOT_SIZE)
    this.view.setUint32(at + SLOT.listener, listener, true)
    this.view.setUint32(at + SLOT.container, container, true)
    this.view.setUint32(at + SLOT.thread, thread, true)
    this.setState(at, STATE.receiving)
    return at
  }

  /** The notification is there. */
  receive(at: number): void {
    this.view.setFloat64(at + SLOT.since, Date.now(), true)
    this.setState(at, STATE.received)
  }

  /** The act is done: its answer may be sent by whoever has the slot. */
  settle(at: number, value: bigint, errno: number): void {
    this.view.setBigInt64(at + SLOT.value, value, true)
    this.view.setUint32(at + SLOT.errno, errno, true)
    this.setState(at, STATE.acted)
  }

  state(at: number): number {
    return Atomics.load(this.#words, (at + SLOT.state) >> 2)
  }

  /** Offsets of all slots: those that are free tell of the last call that they had. */
  all(): number[] {
    return Array.from({ length: SLOTS }, (_, index) => HEADER_SIZE + index * SLOT_SIZE)
  }

  /** The 80 bytes that the kernel writes. */
  notification(at: number): Uint8Array {
    const index = (at - HEADER_SIZE) / SLOT_SIZE
    this.#notifications[index] ??= this.#bytes.subarray(at, at + SECCOMP_NOTIF_SIZE)
    return this.#notifications[index]
  }

  setState(at: number, state: number): void {
    Atomics.store(this.#words, (at + SLOT.state) >> 2, state)
  }
}
