import { NOTIF, SECCOMP_NOTIF_RESP_SIZE, SECCOMP_USER_NOTIF_FLAG_CONTINUE } from '../../abi/seccomp.ts'
import { EPOLLIN } from '../../abi/socket.ts'
import type { Epoll } from '../../kernel/epoll.ts'
import { Fd, type Handle } from '../../kernel/fd.ts'
import { notifIdValid, notifSend } from '../../kernel/seccomp.ts'
import { shutdown } from '../../kernel/socket.ts'
import { SLOT, SLOTS, type Slots, STATE } from '../../link/journal.ts'
import { struct } from '../../shared/words.ts'
import type { ListenerTable } from './listener-table.ts'

const [WORD, WORDS] = struct({ taken: 1, count: 1, first: SLOTS })
export const INHERITED_WORDS = WORDS
/** The token with which the epoll set of the listeners reports inherited calls. */
export const INHERITED_TOKEN = 0xffff_fff0
/** After this number of engines have failed while they served the same call, the call counts as the cause. */
const ATTEMPTS = 2

/**
 * Hands the calls in flight that the previous engine left to the serving threads. They come out of the same epoll set
 * as new calls: while inherited calls remain, `ready` is in the set and readable, and the leader takes one call per
 * event.
 *
 * Invariant: each inherited slot is returned by `take` to one thread only, since the index is drawn by an atomic add.
 * Preconditions: the main thread calls `find` before the engine receives its first call, and then `offer`; any serving
 * thread calls `take`, without a lock.
 */
export class InheritedCalls {
  readonly #words: Int32Array
  readonly #epoll: Epoll
  readonly #ready: Handle

  /**
   * @param ready a descriptor that is always readable and not yet in `epoll`
   */
  constructor(words: Int32Array, epoll: Epoll, ready: Handle) {
    this.#words = words
    this.#epoll = epoll
    this.#ready = ready
  }

  /**
   * Finds the inherited calls in the journal.
   *
   * @param failed whether the previous engine failed by itself, and was not ended on purpose
   * @returns their slots
   */
  find(slots: Slots, failed: boolean): readonly number[] {
    const found = slots.all().filter((slot) => slots.state(slot) !== STATE.free)
    if (failed) for (const slot of found) countAttempt(slots.view, slot)
    this.#words.set(found, WORD.first)
    Atomics.store(this.#words, WORD.count, found.length)
    return found
  }

  /** Offers the calls to the serving threads. Precondition: the keeper has handed over all listeners. */
  offer(): void {
    if (Atomics.load(this.#words, WORD.count) > 0) this.#epoll.add(this.#ready, EPOLLIN, [INHERITED_TOKEN, 0])
  }

  /** Takes one call. @returns its slot, which from now on belongs to this thread; undefined if none is left */
  take(): number | undefined {
    const count = Atomics.load(this.#words, WORD.count)
    const taken = Atomics.add(this.#words, WORD.taken, 1)
    if (taken >= count - 1) this.#epoll.remove(this.#ready.raw)
    return taken < count ? this.#words[WORD.first + taken] : undefined
  }
}

function countAttempt(view: DataView, slot: number): void {
  view.setUint32(slot + SLOT.attempts, view.getUint32(slot + SLOT.attempts, true) + 1, true)
}

interface InheritedCall {
  readonly index: number
  readonly listenerFd: number
  /** The state, of `STATE`, in which the previous engine left the slot. */
  readonly left: number
  /** Too many engines have failed while they served this call. */
  readonly isPoison: boolean
}

/** Returns whether an earlier engine had begun to act for this call: the kernel must not run such a call any more. */
export const hasBegun = ({ left }: { readonly left?: number | undefined }): boolean =>
  left === STATE.acting || left === STATE.acted

/**
 * Reads what the journal says about an inherited call.
 *
 * @returns undefined if its listener is gone or the call was forwarded by a monitor of LXC; then the slot is freed
 */
export function resumeInherited(
  slot: number,
  slots: Slots,
  { fd }: ListenerTable,
  proxies: { has(listener: number): boolean },
): InheritedCall | undefined {
  const { view } = slots
  const index = view.getUint32(slot + SLOT.listener, true)
  const listenerFd = fd[index] ?? 0
  // Only the previous engine had the listener of a forwarded call; its monitor answers the call (ENOSYS).
  const isForwarded = listenerFd > 0 && proxies.has(index)
  if (isForwarded) shutdown(new Fd(listenerFd))
  if (listenerFd <= 0 || isForwarded) {
    slots.setState(slot, STATE.free)
    return undefined
  }
  const isPoison = view.getUint32(slot + SLOT.attempts, true) >= ATTEMPTS
  return { index, listenerFd, left: slots.state(slot), isPoison }
}

/** How far the id of a lost call may be from the ids of known calls: more than the number of threads. */
const AROUND = 128n
/** How many ids of one listener are tried at most: each costs an ioctl. */
const LIMIT = 8192n

/**
 * Finds received calls that are in no slot, and continues them: nothing was done for them. The kernel itself writes
 * each notification into its slot, so there should be no such call. But a caller without an answer would wait for ever.
 * The ids of a listener's calls are consecutive, and only ids of received, unanswered calls are valid.
 *
 * @param index the keeper's number of the listener
 * @param listener its descriptor, from which no thread receives meanwhile
 * @returns the number of calls that were continued
 */
export function continueLostCalls(slots: Slots, index: number, listener: number): number {
  const { view } = slots
  const own = slots.all().filter((slot) => view.getUint32(slot + SLOT.listener, true) === index)
  const ids = own.map((slot) => view.getBigUint64(slot + NOTIF.id, true)).filter((id) => id !== 0n)
  const waiting = own.filter((slot) => slots.state(slot) !== STATE.free)
  const known = new Set(waiting.map((slot) => view.getBigUint64(slot + NOTIF.id, true)))
  return range(ids).filter((id) => !known.has(id) && pass(listener, id)).length
}

/** Returns the ids to try: around the known ids, and at most the newest `LIMIT` if they are further apart. */
function range(ids: readonly bigint[]): bigint[] {
  if (ids.length === 0) return []
  const sorted = [...ids].sort((a, b) => (a < b ? -1 : 1))
  const [oldest, newest] = [sorted[0]!, sorted.at(-1)!]
  const first = newest - oldest < LIMIT ? oldest - AROUND : newest - LIMIT
  return Array.from({ length: Number(newest + AROUND - first) }, (_, step) => BigInt.asUintN(64, first + BigInt(step)))
}

/** Continues the call `id`. @returns whether the call was still waiting */
function pass(listener: number, id: bigint): boolean {
  const response = new Uint8Array(SECCOMP_NOTIF_RESP_SIZE)
  const view = new DataView(response.buffer)
  view.setBigUint64(0, id, true)
  view.setUint32(20, SECCOMP_USER_NOTIF_FLAG_CONTINUE, true)
  return notifIdValid(listener, response) && notifSend(listener, response)
}
