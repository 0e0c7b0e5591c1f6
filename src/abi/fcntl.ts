/** linux/fcntl.h: instead of a directory descriptor, the working directory. */
export const AT_FDCWD = -100
export const AT_SYMLINK_NOFOLLOW = 0x100
/** Of faccessat2(2): by the effective ids. */
export const AT_EACCESS = 0x200
export const AT_EMPTY_PATH = 0x1000
export const AT_STATX_DONT_SYNC = 0x4000
export const AT_RECURSIVE = 0x8000

/** Flags of open(2), asm/fcntl.h. */
export const O_RDONLY = 0
export const O_WRONLY = 1
export const O_RDWR = 2
export const O_CREAT = 0o100
export const O_NONBLOCK = 0o4000
export const O_DIRECTORY = process.arch === 'arm64' ? 0o40000 : 0o200000
export const O_NOFOLLOW = process.arch === 'arm64' ? 0o100000 : 0o400000
export const O_CLOEXEC = 0o2000000
export const O_PATH = 0o10000000

/** Commands of fcntl(2), and its one flag of a descriptor. */
export const F_GETFD = 1
export const F_SETFD = 2
export const F_GETFL = 3
export const F_SETFL = 4
export const F_DUPFD_CLOEXEC = 1030
export const FD_CLOEXEC = 1

/** How openat2(2) resolves a path, linux/openat2.h. */
export const RESOLVE_NO_XDEV = 0x01
export const RESOLVE_NO_MAGICLINKS = 0x02
export const RESOLVE_NO_SYMLINKS = 0x04
export const RESOLVE_IN_ROOT = 0x10
export const RESOLVE_CACHED = 0x20

/** What access(2) asks. */
export const F_OK = 0
export const X_OK = 1
export const W_OK = 2
export const R_OK = 4

/** Of flock(2): for one opener alone, without a wait. */
export const LOCK_EX = 2
export const LOCK_NB = 4

/** Of close_range(2), linux/close_range.h. */
export const CLOSE_RANGE_CLOEXEC = 4

/** The type of a handle of a file of kernfs, for open_by_handle_at(2); linux/exportfs.h. */
export const FILEID_KERNFS = 0xfe

/** linux/falloc.h. */
export const FALLOC_FL_KEEP_SIZE = 1
export const FALLOC_FL_PUNCH_HOLE = 2
