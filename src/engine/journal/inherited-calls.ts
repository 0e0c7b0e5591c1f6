import { SLOT, SLOTS, STATE } from '../../calls/slot.ts'
import { EPOLLIN, type Epoll } from '../../kernel/epoll.ts'
import { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { shutdown } from '../../kernel/socket.ts'
import type { ListenerTable } from '../tables/listener-table.ts'
import type { Slots } from './slots.ts'

const WORD = { taken: 0, count: 1, finished: 2, first: 3 } as const
export const INHERITED_WORDS = WORD.first + SLOTS
/** What the set of listeners says when there are some. */
export const INHERITED_TOKEN = 0xffff_fff0
/** Engines that may fail with the same call in their hands: then it is taken for the call that lets them fail. */
const ATTEMPTS = 2

/**
 * The calls that an engine left when it ended. They come out of the same set as new ones: as long as there are some, a
 * descriptor in it is readable, and whoever leads takes one.
 */
export class InheritedCalls {
  readonly #words: Int32Array
  readonly #epoll: Epoll
  readonly #ready: Handle

  /** @param ready always readable, not in the set */
  constructor(words: Int32Array, epoll: Epoll, ready: Handle) {
    this.#words = words
    this.#epoll = epoll
    this.#ready = ready
  }

  /**
   * Finds them; once in the life of an engine, before it receives anything.
   *
   * @param failed whether the engine before this one ended by itself, not by somebody's will
   */
  find(slots: Slots, failed: boolean): void {
    const found = slots.all().filter((slot) => slots.state(slot) !== STATE.free)
    if (failed) for (const slot of found) countAttempt(slots.view, slot)
    this.#words.set(found, WORD.first)
    Atomics.store(this.#words, WORD.count, found.length)
  }

  /** Those who serve may have them: all listeners are there. */
  offer(): void {
    if (this.some) this.#epoll.add(this.#ready, EPOLLIN, [INHERITED_TOKEN, 0])
  }

  /** @returns the slot of one of them, this thread's from now on */
  take(): number | undefined {
    const count = Atomics.load(this.#words, WORD.count)
    const taken = Atomics.add(this.#words, WORD.taken, 1)
    if (taken >= count - 1) this.#epoll.remove(this.#ready.raw)
    return taken < count ? this.#words[WORD.first + taken] : undefined
  }

  finish(): void {
    Atomics.add(this.#words, WORD.finished, 1)
  }

  /** Is there one that was not finished yet? */
  get some(): boolean {
    return Atomics.load(this.#words, WORD.finished) < Atomics.load(this.#words, WORD.count)
  }
}

function countAttempt(view: DataView, slot: number): void {
  view.setUint32(slot + SLOT.attempts, view.getUint32(slot + SLOT.attempts, true) + 1, true)
}

interface InheritedCall {
  readonly index: number
  readonly listener: number
  /** In what state it was left. */
  readonly left: number
  /** Too many engines have failed with it. */
  readonly isPoison: boolean
}

/** Had an earlier engine begun to act for this call? Then the kernel must not judge it any more. */
export const hasBegun = ({ left }: { readonly left?: number }): boolean => left === STATE.acting || left === STATE.acted

/** @returns what is known of a call that was left; undefined if nobody waits for it, or nobody can answer it: its slot is free then */
export function resumeInherited(
  slot: number,
  slots: Slots,
  { fd }: ListenerTable,
  proxies: { has(listener: number): boolean },
): InheritedCall | undefined {
  const { view } = slots
  const index = view.getUint32(slot + SLOT.listener, true)
  const listener = fd[index] ?? 0
  // The listener of a forwarded call was in the hands of that engine only: its monitor answers it (ENOSYS).
  const isForwarded = listener > 0 && proxies.has(index)
  if (isForwarded) shutdown(new Fd(listener))
  if (listener <= 0 || isForwarded) {
    slots.setState(slot, STATE.free)
    return undefined
  }
  const isPoison = view.getUint32(slot + SLOT.attempts, true) >= ATTEMPTS
  return { index, listener, left: slots.state(slot), isPoison }
}
