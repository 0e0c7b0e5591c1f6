import { SECCOMP_NOTIF_SIZE } from '../../abi/seccomp.ts'
import { SLOT, SLOT_SIZE, SLOTS, STATE } from '../../calls/slot.ts'
import { HEADER_SIZE } from './layout.ts'

const LAST = SLOTS - 1
/** A call that has been served for this long may hang. */
const STUCK_MS = 10_000

/** Where a call comes from, by the keeper's numbers, and the number of the engine thread that receives it. */
interface Origin {
  readonly listener: number
  readonly container: number
  readonly thread: number
}

/**
 * Takes, fills and frees the slots of the calls in flight (layout: calls/slot.ts).
 *
 * Invariant: a slot that is not free belongs to one thread; it alone writes to the slot, and frees it after the call.
 * Preconditions: only the leader calls `take`, only the dedicated receiver `takeLast`; the keeper calls both while no
 * engine runs.
 */
export class Slots {
  readonly view: DataView
  readonly words: Int32Array
  readonly #bytes: Uint8Array
  readonly #notifications: (Uint8Array | undefined)[] = []
  #cursor = 0

  constructor(memory: ArrayBuffer) {
    this.view = new DataView(memory)
    this.words = new Int32Array(memory)
    this.#bytes = new Uint8Array(memory)
  }

  /**
   * Takes a free slot and writes into it where the next call comes from. If the engine ends from here on, at any
   * instruction, it leaves everything that the next engine must know. The notification is zeroed, because the kernel
   * refuses any other (EINVAL).
   *
   * @returns the slot's offset in bytes; -1 if all slots are taken
   */
  take(origin: Origin): number {
    for (let tries = 0; tries < LAST; tries++) {
      this.#cursor = (this.#cursor + 1) % LAST
      const at = HEADER_SIZE + this.#cursor * SLOT_SIZE
      if (this.state(at) === STATE.free) return this.#open(at, origin)
    }
    return -1
  }

  /** Does the same as `take` with the last slot, which is reserved for the dedicated receiver. */
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

  /** Marks the slot when the kernel has written the notification. */
  receive(at: number): void {
    this.view.setFloat64(at + SLOT.since, Date.now(), true)
    this.setState(at, STATE.received)
  }

  /** Stores the result of the act: from here on this engine or the next may send the answer. */
  settle(at: number, value: bigint, errno: number): void {
    this.view.setBigInt64(at + SLOT.value, value, true)
    this.view.setUint32(at + SLOT.errno, errno, true)
    this.setState(at, STATE.acted)
  }

  /**
   * Returns the container's number of each call that has been served for long. Any thread may call this.
   *
   * @param time milliseconds since 1970
   */
  stuck(time: number): readonly number[] {
    const isStuck = (at: number): boolean =>
      this.state(at) !== STATE.free &&
      this.state(at) !== STATE.receiving &&
      time - this.view.getFloat64(at + SLOT.since, true) > STUCK_MS
    return this.all()
      .filter(isStuck)
      .map((at) => this.view.getUint32(at + SLOT.container, true))
  }

  state(at: number): number {
    return Atomics.load(this.words, (at + SLOT.state) >> 2)
  }

  /** Returns the offsets of all slots; a free slot still has the content of its last call. */
  all(): number[] {
    return Array.from({ length: SLOTS }, (_, index) => HEADER_SIZE + index * SLOT_SIZE)
  }

  get isAnyTaken(): boolean {
    return this.all().some((at) => this.state(at) !== STATE.free)
  }

  /** Returns the 80 bytes into which the kernel writes the notification. */
  notification(at: number): Uint8Array {
    const index = (at - HEADER_SIZE) / SLOT_SIZE
    this.#notifications[index] ??= this.#bytes.subarray(at, at + SECCOMP_NOTIF_SIZE)
    return this.#notifications[index]
  }

  setState(at: number, state: number): void {
    Atomics.store(this.words, (at + SLOT.state) >> 2, state)
  }
}
