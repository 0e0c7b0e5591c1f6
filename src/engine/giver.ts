import type { Tid } from '../abi/brand.ts'
import { NOTIF } from '../abi/seccomp.ts'
import type { Container } from '../caller/container.ts'
import type { Handle } from '../kernel/handle.ts'
import { stateOf } from '../kernel/process.ts'
import type { Answer, Giving } from './answer.ts'
import type { Slots } from './journal.ts'

/** How often a caller is looked at that still goes to sleep. */
const LOOKS = 100

/**
 * Answers calls with descriptors. One step (SECCOMP_ADDFD_FLAG_SEND) is exact if a signal cancels the call in between; but
 * if it is this thread that is stopped, frozen or killed while the caller has yet to take the descriptor, the call returns 0
 * and there is none: kernel/seccomp.c seccomp_notify_addfd() takes back the descriptor and not the answer. Two steps are
 * exact whatever becomes of this thread, where no signal can cancel a call: with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
 *
 * A filter does not tell its flags. But a caller that got a descriptor goes to sleep anew, and then shows by its state which
 * signals end that.
 */
export class Giver {
  readonly #answer: Answer
  readonly #slots: Slots
  readonly #proc: Handle
  /** Do calls of a container outlast signals? */
  readonly #lasting = new WeakMap<Container, boolean>()

  /** @param proc the host's procfs */
  constructor(answer: Answer, slots: Slots, proc: Handle) {
    this.#answer = answer
    this.#slots = slots
    this.#proc = proc
  }

  /**
   * @param fd is used up: a mount whose descriptor we still held when the caller goes on could not be unmounted
   * @returns its number in the caller's table; undefined if the call no longer waits
   */
  give(listener: number, slot: number, container: Container, fd: Handle, cloexec: boolean): number | undefined {
    const isAnswer = this.#lasting.get(container) === false
    const giving: Giving = { cloexec, isAnswer }
    const number = this.#answer.descriptor(listener, slot, fd, giving)
    fd[Symbol.dispose]()
    if (number === undefined || isAnswer) return number
    this.#slots.settle(slot, BigInt(number), 0)
    if (!this.#lasting.has(container)) this.#learn(slot, container)
    return this.#answer.value(listener, slot, BigInt(number)) ? number : undefined
  }

  #learn(slot: number, container: Container): void {
    const tid = this.#slots.view.getUint32(slot + NOTIF.tid, true) as Tid
    for (let looks = 0; looks < LOOKS; looks++) {
      const state = stateOf(this.#proc, tid)
      if (state === 'D' || state === 'S') this.#lasting.set(container, state === 'D')
      if (state !== 'R') return
    }
  }
}
