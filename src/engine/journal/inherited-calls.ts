import { EPOLLIN } from '../../abi/poll.ts'
import { SLOT, SLOTS, STATE } from '../../calls/slot.ts'
import type { Epoll } from '../../kernel/epoll.ts'
import { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { shutdown } from '../../kernel/socket.ts'
import { struct } from '../../shared/struct.ts'
import type { ListenerTable } from '../tables/listener-table.ts'
import type { Slots } from './slots.ts'

const [WORD, WORDS] = struct({ taken: 1, count: 1, finished: 1, first: SLOTS })
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
 * thread calls `take` and `finish`, without a lock.
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
   */
  find(slots: Slots, failed: boolean): void {
    const found = slots.all().filter((slot) => slots.state(slot) !== STATE.free)
    if (failed) for (const slot of found) countAttempt(slots.view, slot)
    this.#words.set(found, WORD.first)
    Atomics.store(this.#words, WORD.count, found.length)
  }

  /** Offers the calls to the serving threads. Precondition: the keeper has handed over all listeners. */
  offer(): void {
    if (this.some) this.#epoll.add(this.#ready, EPOLLIN, [INHERITED_TOKEN, 0])
  }

  /** Takes one call. @returns its slot, which from now on belongs to this thread; undefined if none is left */
  take(): number | undefined {
    const count = Atomics.load(this.#words, WORD.count)
    const taken = Atomics.add(this.#words, WORD.taken, 1)
    if (taken >= count - 1) this.#epoll.remove(this.#ready.raw)
    return taken < count ? this.#words[WORD.first + taken] : undefined
  }

  finish(): void {
    Atomics.add(this.#words, WORD.finished, 1)
  }

  /** Returns whether some found call is not finished yet. */
  get some(): boolean {
    return Atomics.load(this.#words, WORD.finished) < Atomics.load(this.#words, WORD.count)
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
export const hasBegun = ({ left }: { readonly left?: number }): boolean => left === STATE.acting || left === STATE.acted

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
