import { _IOWR } from './ioctl.ts'

/** linux/pidfd.h. Since 6.9: the descriptor is of one thread. */
export const PIDFD_THREAD = 0o200

/** `struct pidfd_info` of 6.13: 0 u64 mask, which asks and answers. */
export const PIDFD_INFO_SIZE = 64
export const PIDFD_GET_INFO = _IOWR(0xff, 11, PIDFD_INFO_SIZE)
export const PIDFD_INFO_CREDS = 2
