import type { Container } from '../../caller/identity/container.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { Slots } from '../journal/slots.ts'
import type { AddFd, Answer } from './answer.ts'

/**
 * Answers calls with descriptors, in one step or in two.
 *
 * One step (SECCOMP_ADDFD_FLAG_SEND) is exact if a signal cancels the call. But if this thread is stopped, frozen or
 * killed before the caller has installed the descriptor, the call returns 0 without a descriptor, since
 * kernel/seccomp.c seccomp_notify_addfd() takes back the descriptor and not the answer. Two steps (ADDFD, then SEND)
 * are exact whatever happens to this thread, but only where no signal can cancel the call: under
 * SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
 */
export class FdAnswer {
  readonly #answer: Answer
  readonly #slots: Slots

  constructor(answer: Answer, slots: Slots) {
    this.#answer = answer
    this.#slots = slots
  }

  /**
   * Gives the caller a descriptor as the result of its call.
   *
   * @param fd closed here: a mount whose descriptor we still held when the caller goes on could not be unmounted
   * @returns the number in the caller's table; undefined if the call no longer waits
   */
  give(listener: number, slot: number, container: Container, fd: Handle, cloexec: boolean): number | undefined {
    const isAnswer = !container.waitKillable
    const giving: AddFd = { cloexec, isAnswer }
    const number = this.#answer.descriptor(listener, slot, fd, giving)
    // At once: an engine that ends before gives another descriptor.
    if (number !== undefined && !isAnswer) this.#slots.settle(slot, BigInt(number), 0)
    fd[Symbol.dispose]()
    if (number === undefined || isAnswer) return number
    return this.#answer.value(listener, slot, BigInt(number)) ? number : undefined
  }
}
