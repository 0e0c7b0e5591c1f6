// Decodes what the engine writes, and what it reads by single fields. Use it to look at notifications and answers.
import type { Tid } from '../../src/abi/brand.ts'
import { type Addfd, NOTIF, type Response } from '../../src/abi/seccomp.ts'

/** `struct seccomp_notif`, decoded. */
export interface Notification {
  readonly id: bigint
  /** The calling *thread* in our pid namespace; 0 if it is not visible there. */
  readonly tid: Tid
  readonly nr: number
  /** AUDIT_ARCH_* of the call, which decides number and layout. */
  readonly arch: number
  readonly ip: bigint
  readonly args: readonly bigint[]
}

/**
 * Decodes `struct seccomp_notif`: 80 bytes, little endian.
 *
 * @throws {RangeError} if `view` is shorter than 80 bytes
 * @see linux/include/uapi/linux/seccomp.h, seccomp_unotify(2)
 */
export function decodeNotification(view: DataView): Notification {
  return {
    id: view.getBigUint64(NOTIF.id, true),
    tid: view.getUint32(NOTIF.tid, true) as Tid,
    nr: view.getInt32(NOTIF.nr, true),
    arch: view.getUint32(NOTIF.arch, true),
    ip: view.getBigUint64(NOTIF.ip, true),
    args: [0, 1, 2, 3, 4, 5].map((index) => view.getBigUint64(NOTIF.args + 8 * index, true)),
  }
}

/** The inverse of `decodeNotification`. */
export function encodeNotification(view: DataView, notification: Notification): void {
  view.setBigUint64(NOTIF.id, notification.id, true)
  view.setUint32(NOTIF.tid, notification.tid, true)
  view.setUint32(NOTIF.flags, 0, true)
  view.setInt32(NOTIF.nr, notification.nr, true)
  view.setUint32(NOTIF.arch, notification.arch, true)
  view.setBigUint64(NOTIF.ip, notification.ip, true)
  for (const [index, arg] of notification.args.entries()) view.setBigUint64(NOTIF.args + 8 * index, arg, true)
}

/** @throws {RangeError} if `view` is shorter than 24 bytes */
export function decodeResponse(view: DataView): Response {
  return {
    id: view.getBigUint64(0, true),
    value: view.getBigInt64(8, true),
    error: view.getInt32(16, true),
    flags: view.getUint32(20, true),
  }
}

/** @throws {RangeError} if `view` is shorter than 24 bytes */
export function decodeAddfd(view: DataView): Addfd {
  return {
    id: view.getBigUint64(0, true),
    flags: view.getUint32(8, true),
    srcfd: view.getUint32(12, true),
    newfd: view.getUint32(16, true),
    newfdFlags: view.getUint32(20, true),
  }
}
