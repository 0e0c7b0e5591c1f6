import type { Mode } from './brand.ts'

/** File types of `st_mode`, linux/stat.h. */
export const S_IFMT = 0o170000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000
export const S_IFBLK = 0o060000
export const S_IFREG = 0o100000
export const S_IFDIR = 0o040000
export const S_IFLNK = 0o120000

/** Its sticky bit, and that all others may write. */
export const S_ISVTX = 0o1000
export const S_IWOTH = 0o2

export const fileType = (mode: Mode): number => mode & S_IFMT
