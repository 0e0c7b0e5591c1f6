import { _IOW, _IOWR } from './ioctl.ts'

/** The sizes of the structs of linux/seccomp.h since 5.0; they may only grow, and we ask the kernel at the start. */
export const SECCOMP_NOTIF_SIZE = 80
export const SECCOMP_NOTIF_RESP_SIZE = 24
export const SECCOMP_NOTIF_ADDFD_SIZE = 24

const MAGIC = 0x21
export const SECCOMP_IOCTL_NOTIF_RECV = _IOWR(MAGIC, 0, SECCOMP_NOTIF_SIZE)
export const SECCOMP_IOCTL_NOTIF_SEND = _IOWR(MAGIC, 1, SECCOMP_NOTIF_RESP_SIZE)
export const SECCOMP_IOCTL_NOTIF_ID_VALID = _IOW(MAGIC, 2, 8)
export const SECCOMP_IOCTL_NOTIF_ADDFD = _IOW(MAGIC, 3, SECCOMP_NOTIF_ADDFD_SIZE)
export const SECCOMP_IOCTL_NOTIF_SET_FLAGS = _IOW(MAGIC, 4, 8)

/** Operations of seccomp(2), flags of a filter, and what a filter may return. */
export const SECCOMP_SET_MODE_FILTER = 1
export const SECCOMP_GET_ACTION_AVAIL = 2
export const SECCOMP_GET_NOTIF_SIZES = 3
export const SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
export const SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5
export const SECCOMP_RET_USER_NOTIF = 0x7fc00000
export const SECCOMP_RET_ALLOW = 0x7fff0000
/** linux/bpf_common.h: the instruction of a filter that returns. */
export const BPF_RET = 0x06

export const SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1
export const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1
export const SECCOMP_ADDFD_FLAG_SETFD = 1
export const SECCOMP_ADDFD_FLAG_SEND = 2

/**
 * Offsets within `struct seccomp_notif`:
 *
 *   0 u64 id | 8 u32 tid | 12 u32 flags | 16 s32 nr | 20 u32 arch | 24 u64 ip | 32 u64[6] args
 */
export const NOTIF = { id: 0, tid: 8, flags: 12, nr: 16, arch: 20, ip: 24, args: 32 } as const

/** `struct seccomp_notif_resp`: 0 u64 id | 8 s64 val | 16 s32 error (negative) | 20 u32 flags. */
export interface Response {
  readonly id: bigint
  readonly value: bigint
  /** 0, or a *negative* errno. */
  readonly error: number
  readonly flags: number
}

/** @throws {RangeError} if `view` is shorter than 24 bytes */
export function encodeResponse(view: DataView, { id, value, error, flags }: Response): void {
  view.setBigUint64(0, id, true)
  view.setBigInt64(8, value, true)
  view.setInt32(16, error, true)
  view.setUint32(20, flags, true)
}

/** `struct seccomp_notif_addfd`: 0 u64 id | 8 u32 flags | 12 u32 srcfd | 16 u32 newfd | 20 u32 newfd_flags. */
export interface Addfd {
  readonly id: bigint
  readonly flags: number
  readonly srcfd: number
  readonly newfd: number
  readonly newfdFlags: number
}

/** @throws {RangeError} if `view` is shorter than 24 bytes */
export function encodeAddfd(view: DataView, addfd: Addfd): void {
  view.setBigUint64(0, addfd.id, true)
  view.setUint32(8, addfd.flags, true)
  view.setUint32(12, addfd.srcfd, true)
  view.setUint32(16, addfd.newfd, true)
  view.setUint32(20, addfd.newfdFlags, true)
}
