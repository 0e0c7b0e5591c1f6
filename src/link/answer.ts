import type { Errno } from '../abi/brand.ts'
import { O_CLOEXEC } from '../abi/fcntl.ts'
import {
  NOTIF,
  SECCOMP_ADDFD_FLAG_SEND,
  SECCOMP_ADDFD_FLAG_SETFD,
  SECCOMP_NOTIF_ADDFD_SIZE,
  SECCOMP_NOTIF_RESP_SIZE,
  SECCOMP_USER_NOTIF_FLAG_CONTINUE,
} from '../abi/seccomp.ts'
import type { Handle } from '../kernel/fd.ts'
import { notifAddfd, notifIdValid, notifSend } from '../kernel/seccomp.ts'

/** How SECCOMP_IOCTL_NOTIF_ADDFD installs a descriptor in the caller's table. */
interface AddFd {
  /** Whether execve(2) closes the new descriptor. */
  readonly cloexec: boolean
  /** The number of the caller's descriptor that is replaced (SECCOMP_ADDFD_FLAG_SETFD). */
  readonly replaces?: number | undefined
  /** Whether the same ioctl also answers the call, with the new number (SECCOMP_ADDFD_FLAG_SEND). */
  readonly isAnswer?: boolean
}

/**
 * Sends the answers of one thread. The structs are allocated once and reused.
 *
 * Precondition: each thread has its own `Answer`, and answers only calls in slots which belong to that thread.
 */
export class Answer {
  readonly #slots: DataView
  readonly #response = new Uint8Array(SECCOMP_NOTIF_RESP_SIZE)
  readonly #view = new DataView(this.#response.buffer)
  readonly #addfd = new Uint8Array(SECCOMP_NOTIF_ADDFD_SIZE)
  readonly #addfdView = new DataView(this.#addfd.buffer)
  readonly #id = new Uint8Array(this.#response.buffer, 0, 8)

  constructor(slots: DataView) {
    this.#slots = slots
  }

  /** Lets the kernel run the call as the caller. @returns false if the call no longer waits */
  continue(listener: number, slot: number): boolean {
    return this.#send(listener, slot, 0n, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)
  }

  errno(listener: number, slot: number, errno: Errno): boolean {
    return this.#send(listener, slot, 0n, -errno, 0)
  }

  value(listener: number, slot: number, value: bigint): boolean {
    return this.#send(listener, slot, value, 0, 0)
  }

  /**
   * Installs a descriptor in the caller's table.
   *
   * @returns its number there; undefined if the call no longer waits
   */
  descriptor(listener: number, slot: number, fd: Handle, { cloexec, replaces, isAnswer }: AddFd): number | undefined {
    const flags = isAnswer ? SECCOMP_ADDFD_FLAG_SEND : 0
    this.#copyId(slot)
    this.#addfd.set(this.#id)
    this.#addfdView.setUint32(8, replaces === undefined ? flags : SECCOMP_ADDFD_FLAG_SETFD, true)
    this.#addfdView.setUint32(12, fd.raw, true)
    this.#addfdView.setUint32(16, replaces ?? 0, true)
    this.#addfdView.setUint32(20, cloexec ? O_CLOEXEC : 0, true)
    return notifAddfd(listener, this.#addfd)
  }

  /** Returns whether the call in `slot` still waits for its answer. */
  waits(listener: number, slot: number): boolean {
    this.#copyId(slot)
    return notifIdValid(listener, this.#id)
  }

  #send(listener: number, slot: number, value: bigint, error: number, flags: number): boolean {
    this.#copyId(slot)
    this.#view.setBigInt64(8, value, true)
    this.#view.setInt32(16, error, true)
    this.#view.setUint32(20, flags, true)
    return notifSend(listener, this.#response)
  }

  #copyId(slot: number): void {
    this.#view.setUint32(0, this.#slots.getUint32(slot + NOTIF.id, true), true)
    this.#view.setUint32(4, this.#slots.getUint32(slot + NOTIF.id + 4, true), true)
  }
}
