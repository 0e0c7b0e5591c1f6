/** asm-generic/mman-common.h, linux/mman.h. */
export const PROT_READ = 1
export const PROT_WRITE = 2
export const MAP_SHARED = 1
/** What mmap(2) of the C library returns if it fails. */
export const MAP_FAILED = 0xffff_ffff_ffff_ffffn
