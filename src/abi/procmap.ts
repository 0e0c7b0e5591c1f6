import { _IOWR } from './ioctl.ts'

/** linux/fs.h: a question to `/proc/PID/maps`, since 6.11. */
export const PROCMAP_QUERY_SIZE = 104
export const PROCMAP_QUERY = _IOWR(0x66, 17, PROCMAP_QUERY_SIZE)
export const PROCMAP_QUERY_VMA_WRITABLE = 2
