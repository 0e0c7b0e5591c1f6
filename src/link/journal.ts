import { SECCOMP_NOTIF_SIZE } from '../abi/seccomp.ts'

/**
 * The layout of a slot of the journal. The table of slots is in a memfd shared by keeper and engines: the kernel writes
 * each notification straight into a slot, and after the end of an engine the next one finds the open calls there.
 *
 *   0 u8[80] struct seccomp_notif | 80 s32 state | 84 u32 listener | 88 u32 container | 92 u32 thread |
 *   96 f64 since (milliseconds since 1970) | 104 s64 value | 112 u32 errno | 116 u32 attempts | 120 u64 note
 *
 * listener and container are the keeper's numbers, which outlive an engine. value and errno are the result of an act;
 * note is what its verb noted before it acted; attempts counts the engines that failed while they served the call.
 *
 * Invariant: the leader takes slots, but for the last, which is the dedicated receiver's. A slot that is not free
 * belongs to the thread that took it, until that frees it. While there is no engine, all slots are the keeper's.
 */
const SLOT_SIZE = 128
export const SLOTS = 1024
export const SLOT = {
  notification: 0,
  state: 80,
  listener: 84,
  container: 88,
  thread: 92,
  since: 96,
  value: 104,
  errno: 112,
  attempts: 116,
  note: 120,
} as const

/**
 * The states of a slot. receiving: the kernel may have written a notification, or not yet; received: nothing was done
 * yet; acting: the act has begun; acted: the result is stored, but the answer may not have been sent yet.
 *
 *   free -> receiving       Slots.take(), Slots.takeLast()
 *   receiving -> received   Slots.receive()
 *   receiving -> free       DedicatedReceiver.receive(), and the leader: there was no notification
 *   received -> free        Server.screen(), Server.continue(), Server.serve(): the call is answered, or has gone
 *   received -> acting      Server.serve()
 *   acting -> acted         Slots.settle()
 *   acting -> free          Server.serve(): the act failed, or its results go to the caller together with the answer
 *   acted -> free           Server.serve(): the call is answered, or has gone
 *
 * When an engine ends, its slots stay as they are. The next engine goes on from there: Server.settle() answers what
 * needs no look at the caller, Server.serve() does the rest. Without an engine, PassThrough.start() of the keeper
 * answers all.
 */
export const STATE = { free: 0, received: 1, acting: 2, acted: 3, receiving: 4 } as const

/** The header of the journal: indices of 32-bit words. */
const BEAT = 32
/** The number of the layout. */
const LAYOUT = 12
const HEADER_SIZE = 4096
/** The journal's size in bytes. */
export const JOURNAL_SIZE = HEADER_SIZE + SLOTS * SLOT_SIZE

/** The version of the layout of the slots. Raise it with every change; it is a part of `FORMAT`, see PersistedState. */
export const JOURNAL_LAYOUT = 1

/** Writes the version into new memory. */
export function writeMagic(memory: ArrayBuffer): void {
  new DataView(memory).setInt32(4 * LAYOUT, JOURNAL_LAYOUT, true)
}

export const isJournal = (memory: ArrayBuffer): boolean =>
  memory.byteLength === JOURNAL_SIZE && new DataView(memory).getInt32(4 * LAYOUT, true) === JOURNAL_LAYOUT

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
 * Takes, fills and frees the slots of the calls in flight.
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

  /** Returns which listener and container the call in a slot is of. */
  of(at: number): { readonly listener: number; readonly container: number } {
    return {
      listener: this.view.getUint32(at + SLOT.listener, true),
      container: this.view.getUint32(at + SLOT.container, true),
    }
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

/**
 * Counts the beats of an engine that serves, in the journal's header. The keeper ends an engine without beats.
 *
 * Preconditions: the main thread of the engine calls `give`; the keeper reads `count`.
 */
export class Heartbeat {
  readonly #words: Int32Array

  constructor(memory: ArrayBuffer) {
    this.#words = new Int32Array(memory)
  }

  give(): void {
    Atomics.add(this.#words, BEAT, 1)
  }

  /** Returns the number of beats so far; it wraps at 32 bits. */
  get count(): number {
    return Atomics.load(this.#words, BEAT)
  }
}
