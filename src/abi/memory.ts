import { _IOWR } from './ioctl.ts'

/** linux/memfd.h and linux/fcntl.h: files of memory, and what can be ruled out for them for ever. */
export const MFD_CLOEXEC = 1
export const MFD_ALLOW_SEALING = 2
/** From Linux 6.3 on. */
export const MFD_NOEXEC_SEAL = 8

export const F_ADD_SEALS = 1033
/** No more seals. */
export const F_SEAL_SEAL = 1
export const F_SEAL_SHRINK = 2
export const F_SEAL_GROW = 4
export const F_SEAL_WRITE = 8

/** asm-generic/mman-common.h, linux/mman.h. */
export const PROT_READ = 1
export const PROT_WRITE = 2
export const MAP_SHARED = 1
/** What mmap(2) of the C library returns if it fails. */
export const MAP_FAILED = 0xffff_ffff_ffff_ffffn

/** linux/fs.h: a question to `/proc/PID/maps`, since 6.11. */
export const PROCMAP_QUERY_SIZE = 104
export const PROCMAP_QUERY = _IOWR(0x66, 17, PROCMAP_QUERY_SIZE)
export const PROCMAP_QUERY_VMA_WRITABLE = 2
