import type { Dev, Mode, TypedDev } from './brand.ts'

/** File types of `st_mode`, linux/stat.h. */
export const S_IFMT = 0o170000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000
export const S_IFBLK = 0o060000
export const S_IFREG = 0o100000
export const S_IFDIR = 0o040000
export const S_IFLNK = 0o120000

/** Bits of its mode. */
export const S_ISGID = 0o2000
export const S_ISVTX = 0o1000
export const S_IWGRP = 0o20
export const S_IXGRP = 0o10
export const S_IWOTH = 0o2
export const S_IXOTH = 0o1

export const fileType = (mode: Mode): number => mode & S_IFMT

/** What statx(2) is asked for, linux/stat.h. */
export const STATX_TYPE = 0x1
export const STATX_UID = 0x8
export const STATX_GID = 0x10
export const STATX_CTIME = 0x80
export const STATX_INO = 0x100
export const STATX_SIZE = 0x200
export const STATX_BTIME = 0x800
/** Since 6.8. */
export const STATX_MNT_ID_UNIQUE = 0x4000

/** An attribute that it reports: it is the root of a mount. */
export const STATX_ATTR_MOUNT_ROOT = 0x2000

/**
 * Packs a device number as mknod(2) takes it in a register: the kernel reads 32 bits, `mmmM MMmm` in nibbles.
 *
 * @see linux/kdev_t.h new_encode_dev()
 */
export function makedev(major: number, minor: number): Dev {
  return (((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0) as Dev
}

/** @see linux/kdev_t.h new_decode_dev() */
export function major(dev: Dev): number {
  return (dev & 0xfff00) >>> 8
}

/** @see linux/kdev_t.h new_decode_dev() */
export function minor(dev: Dev): number {
  return ((dev & 0xff) | ((dev >>> 12) & 0xfff00)) >>> 0
}

/**
 * A device number with the type of its node, S_IFCHR or S_IFBLK, above its 32 bits: rules of devices tell `c 7:0` from
 * `b 7:0`.
 */
export const typedDev = (type: number, dev: Dev): TypedDev => (type * 2 ** 32 + dev) as TypedDev
export const typeOfDev = (typed: TypedDev): number => Math.floor(typed / 2 ** 32)
export const plainDev = (typed: TypedDev): Dev => (typed % 2 ** 32) as Dev

/** linux/major.h: the major number that drivers share which need one device only. */
export const MISC_MAJOR = 10

/** Types of file systems that statfs(2) reports, linux/magic.h. */
export const TMPFS_MAGIC = 0x01021994
export const RAMFS_MAGIC = 0x858458f6
export const HUGETLBFS_MAGIC = 0x958458f6
export const PROC_SUPER_MAGIC = 0x9fa0
export const FUSE_SUPER_MAGIC = 0x65735546
export const OVERLAYFS_SUPER_MAGIC = 0x794c7630
export const CGROUP_SUPER_MAGIC = 0x27e0eb
export const CGROUP2_SUPER_MAGIC = 0x63677270
export const SYSFS_MAGIC = 0x62656572
export const DEVPTS_SUPER_MAGIC = 0x1cd1
export const MQUEUE_MAGIC = 0x19800202
