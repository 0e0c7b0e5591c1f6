import { SECCOMP_NOTIF_RESP_SIZE, SECCOMP_NOTIF_SIZE } from './seccomp.ts'

/**
 * The message in which a monitor of LXC forwards a call: `struct seccomp_notify_proxy_msg` and the structs after it,
 * in the machine's byte order:
 *
 *   0 u64 reserved | 8 u32 monitor | 12 u32 init | 16 u16 sizeof seccomp_notif | 18 u16 sizeof seccomp_notif_resp |
 *   20 u16 sizeof seccomp_data | 24 u64 length of the cookie | 32 seccomp_notif | seccomp_notif_resp | cookie, no NUL
 *
 * monitor and init are numbers in the monitor's pid namespace. The structs have the sizes that the kernel told the
 * monitor, which may grow: we read only the bytes that we know. Three descriptors come with the message: of the
 * directory /proc/TID, of /proc/TID/mem, and of the listener. The reply is the same message without the cookie.
 *
 * @see lxc src/lxc/lxcseccomp.h, src/lxc/seccomp.c seccomp_notify_handler()
 */
export const PROXY_NOTIF = 32
export const PROXY_FDS = 3
export const PROXY_LISTENER = 2

/** Neither a struct nor a cookie of an administrator is longer; there is no promise of LXC. */
const STRUCT_LIMIT = 1024
const COOKIE_LIMIT = 4096
export const PROXY_MESSAGE_LIMIT = PROXY_NOTIF + 2 * STRUCT_LIMIT + COOKIE_LIMIT

export interface ProxyRequest {
  readonly init: number
  /** Where the response stands in the message. */
  readonly response: number
  /** Of the reply: the message without its cookie. */
  readonly replyLength: number
  readonly cookie: Uint8Array
}

/**
 * Takes a forwarded call apart.
 *
 * @param message as it was received: a view, nothing is copied
 * @throws {RangeError} if the sizes that it names are not those that it has, or none that can be
 */
export function parseProxyRequest(message: Uint8Array): ProxyRequest {
  if (message.length > PROXY_MESSAGE_LIMIT) throw new RangeError(`more than ${PROXY_MESSAGE_LIMIT} bytes are too many`)
  if (message.length < PROXY_NOTIF) throw new RangeError(`${message.length} bytes are too few`)
  const view = new DataView(message.buffer, message.byteOffset, message.length)
  const notif = size('seccomp_notif', view.getUint16(16, true), SECCOMP_NOTIF_SIZE)
  const resp = size('seccomp_notif_resp', view.getUint16(18, true), SECCOMP_NOTIF_RESP_SIZE)
  const replyLength = PROXY_NOTIF + notif + resp
  const length = BigInt(replyLength) + view.getBigUint64(24, true)
  if (length !== BigInt(message.length)) throw new RangeError(`it has ${message.length} bytes and says ${length}`)
  return {
    init: view.getUint32(12, true),
    response: PROXY_NOTIF + notif,
    replyLength,
    cookie: message.subarray(replyLength),
  }
}

function size(name: string, said: number, least: number): number {
  if (said >= least && said <= STRUCT_LIMIT) return said
  throw new RangeError(`${said} is no size of ${name}`)
}
