import type { Dev, HostId, Mode, PathBytes } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import {
  AT_EACCESS,
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  F_OK,
  O_CLOEXEC,
  O_RDONLY,
  O_RDWR,
} from '../abi/fcntl.ts'
import {
  makedev,
  STATX_ATTR_MOUNT_ROOT,
  STATX_BTIME,
  STATX_CTIME,
  STATX_GID,
  STATX_INO,
  STATX_MNT_ID_UNIQUE,
  STATX_SIZE,
  STATX_TYPE,
  STATX_UID,
} from '../abi/stat.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { ignoring } from './error.ts'
import { Fd, type Handle } from './fd.ts'
import { check, cstring, lastErrno, libc } from './libc.ts'

const IDENTITY = STATX_TYPE | STATX_UID | STATX_GID | STATX_INO | STATX_SIZE

const libcOpenat = libc.func('int openat(int dir, uint8_t *path, int flags, uint32_t mode)')
const libcRead = libc.func('long read(int fd, uint8_t *buffer, size_t length)')
const libcFchdir = libc.func('int fchdir(int fd)')
const libcChroot = libc.func('int chroot(uint8_t *path)')
const libcUmask = libc.func('uint32_t umask(uint32_t mask)')
const libcMknodat = libc.func('int mknodat(int dir, uint8_t *name, uint32_t mode, uint64_t dev)')
const libcMkdirat = libc.func('int mkdirat(int dir, uint8_t *path, uint32_t mode)')
const libcUnlinkat = libc.func('int unlinkat(int dir, uint8_t *name, int flags)')
const libcFchownat = libc.func('int fchownat(int dir, uint8_t *name, uint32_t uid, uint32_t gid, int flags)')
const libcStatx = libc.func('int statx(int dir, uint8_t *path, int flags, uint32_t mask, uint8_t *result)')
const libcFstatfs = libc.func('int fstatfs(int fd, uint8_t *result)')
const libcReadlinkat = libc.func('long readlinkat(int dir, uint8_t *path, uint8_t *target, size_t length)')
const syscallOpenat2 = libc.func('long syscall(long number, int dir, uint8_t *path, uint8_t *how, size_t size)')
const { openat2: openat2Number } = ownSyscalls(process.arch)

const DOT = new Uint8Array([0x2e, 0])
const EMPTY = new Uint8Array([0])

/**
 * Opens `path`, always close-on-exec.
 *
 * @throws {SyscallError} ENOENT, EACCES, ...
 */
export function openat(dir: number, path: Uint8Array, flags: number): Fd {
  return new Fd(check('openat', libcOpenat(dir, path, flags | O_CLOEXEC, 0)))
}

const how = new Uint8Array(24)
const howView = new DataView(how.buffer)

/**
 * Opens `path` with the calling thread's present credentials, under `resolve`; always close-on-exec.
 *
 * @param dir AT_FDCWD or a descriptor
 * @throws {SyscallError} EAGAIN with RESOLVE_CACHED if the lookup would have to ask the file system; ELOOP with
 *   RESOLVE_NO_MAGICLINKS at a link such as /proc/self/root
 * @see openat2(2): `struct open_how` is 0 u64 flags | 8 u64 mode | 16 u64 resolve
 */
export function openat2(dir: number, path: Uint8Array, flags: number, resolve: number): Fd {
  howView.setUint32(0, flags | O_CLOEXEC, true)
  howView.setUint32(16, resolve, true)
  return new Fd(check('openat2', syscallOpenat2(openat2Number, dir, path, how, 24)))
}

/** Opens the null device, for a program that shall neither read nor write. */
export const openNothing = (): Fd => openat(AT_FDCWD, cstring('/dev/null'), O_RDWR)

/** Reads into `into`. @returns how many bytes were read */
export function read(fd: Handle, into: Uint8Array): number {
  return check('read', libcRead(fd.raw, into, into.length))
}

/** Makes `dir` the working directory of the calling thread, which must have its own. */
export function changeDirectory(dir: Handle): void {
  check('fchdir', libcFchdir(dir.raw))
}

/** Makes `root` the root and working directory of the calling thread, which must have its own (`unshare(CLONE_FS)`). */
export function chrootTo(root: Handle): void {
  check('fchdir', libcFchdir(root.raw))
  check('chroot', libcChroot(DOT))
}

/** Sets the umask of the calling thread, which must have its own. */
export function umask(mask: Mode): void {
  libcUmask(mask)
}

/**
 * Creates the file system node `name` in `parent`.
 *
 * @param name one component with its trailing slashes, if it had some, and a NUL
 * @param dev as in the caller's register, whose encoding is that of the low half of the C library's dev_t
 * @throws {SyscallError} EPERM without CAP_MKNOD in the initial user namespace; EEXIST; EACCES; EROFS; ...
 * @see mknodat(2), linux/fs/namei.c do_mknodat()
 */
export function mknodat(parent: Handle, name: PathBytes, mode: Mode, dev: Dev): void {
  check('mknodat', libcMknodat(parent.raw, name, mode, dev))
}

/** Makes a directory, unless something has its name already. @throws {SyscallError} ENOENT; ENAMETOOLONG; ENOSPC */
export function mkdirat(dir: number, path: Uint8Array, mode: Mode): void {
  ignoring(['EEXIST'], () => void check('mkdirat', libcMkdirat(dir, path, mode)))
}

/** Removes a name which is not a directory's. @throws {SyscallError} ENOENT; EACCES; EBUSY if a mount is on it */
export function unlinkat(parent: Handle, name: Uint8Array): void {
  check('unlinkat', libcUnlinkat(parent.raw, name, 0))
}

/** Changes the group of a file; `name` must not be a symbolic link, since that would be followed. Needs CAP_CHOWN. */
export function fchownGroup(parent: Handle, name: Uint8Array, gid: HostId): void {
  check('fchownat', libcFchownat(parent.raw, name, 0xffff_ffff, gid, 0))
}

const libcFchmodat = libc.func('int fchmodat(int parent, uint8_t *name, uint mode, int flags)')

/** Changes the mode of a file of ours; `name` must not be a symbolic link, since that would be followed. */
export function chmodAt(parent: Handle, name: Uint8Array, mode: Mode): void {
  check('fchmodat', libcFchmodat(parent.raw, name, mode, 0))
}

/**
 * The identity of a file. Offsets within `struct statx`:
 *
 *   20 u32 uid | 24 u32 gid | 28 u16 mode | 32 u64 ino | 40 u64 size | 136 u32 major | 140 u32 minor
 */
export interface Identity {
  readonly dev: bigint
  readonly ino: bigint
  readonly mode: Mode
  /** Owner and group as the mount shows them; 65534 for an id that is not mapped. */
  readonly uid: HostId
  readonly gid: HostId
  readonly size: bigint
}

const statxBytes = new Uint8Array(256)
const statxView = new DataView(statxBytes.buffer)

/**
 * Returns the identity of a descriptor's file from the cache, without a request to the server of a network file system.
 *
 * @throws {SyscallError} EACCES on a FUSE file system of another user namespace
 */
export function statx(fd: number): Identity {
  check('statx', libcStatx(fd, EMPTY, AT_EMPTY_PATH | AT_STATX_DONT_SYNC, IDENTITY, statxBytes))
  return {
    dev: (BigInt(statxView.getUint32(136, true)) << 32n) | BigInt(statxView.getUint32(140, true)),
    ino: statxView.getBigUint64(32, true),
    mode: statxView.getUint16(28, true) as Mode,
    uid: statxView.getUint32(20, true) as HostId,
    gid: statxView.getUint32(24, true) as HostId,
    size: statxView.getBigUint64(40, true),
  }
}

/**
 * Returns the id of the mount of `fd`, which no other mount has as long as this one exists: whoever compares two ids
 * must hold one of the mounts; `struct statx`: 144 u64 mount.
 */
export function mountId(fd: Handle): bigint {
  check('statx', libcStatx(fd.raw, EMPTY, AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID_UNIQUE, statxBytes))
  return statxView.getBigUint64(144, true)
}

/** Returns the id of the mount of `fd`, if it is never reused; undefined before 6.8. `struct statx`: 0 u32 mask */
export function uniqueMountId(fd: Handle): bigint | undefined {
  const id = mountId(fd)
  return (statxView.getUint32(0, true) & STATX_MNT_ID_UNIQUE) === 0 ? undefined : id
}

/** Returns the device number of a node; `struct statx`: 128 u32 major | 132 u32 minor. */
export function deviceOf(node: Handle): Dev {
  check('statx', libcStatx(node.raw, EMPTY, AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, statxBytes))
  return makedev(statxView.getUint32(128, true), statxView.getUint32(132, true))
}

/** `struct statx_timestamp`: s64 seconds | u32 nanoseconds. */
const milliseconds = (at: number): number =>
  1000 * Number(statxView.getBigInt64(at, true)) + statxView.getUint32(at + 8, true) / 1e6

/** Times of a file in milliseconds since 1970, by the clock of the file system, which may be a tick behind. */
interface Times {
  /** The time of creation; the same as `changed` if the file system does not keep it. */
  readonly born: number
  readonly changed: number
}

/** Returns the times of a file; `struct statx`: 0 u32 mask | 80 birth | 96 change. */
export function timesOf(fd: Handle): Times {
  check('statx', libcStatx(fd.raw, EMPTY, AT_EMPTY_PATH, STATX_BTIME | STATX_CTIME, statxBytes))
  const changed = milliseconds(96)
  return { born: (statxView.getUint32(0, true) & STATX_BTIME) === 0 ? changed : milliseconds(80), changed }
}

const MARKS = STATX_CTIME | STATX_MNT_ID_UNIQUE | STATX_INO

/**
 * Returns numbers which differ for any other file, and for this file after a change: file system, inode, time of
 * change, and the mount of `fd`. `struct statx`: 96 s64 seconds | 104 u32 nanoseconds of the change.
 */
export function marksOf(fd: Handle): readonly bigint[] {
  check('statx', libcStatx(fd.raw, EMPTY, AT_EMPTY_PATH, MARKS, statxBytes))
  return [136, 32, 96, 104, 144].map((at) => statxView.getBigUint64(at, true))
}

/** Returns whether `fd` is the root of its mount, so that a mount is at its path; `struct statx`: 8 u64 attributes. */
export function isMountRoot(fd: Handle): boolean {
  check('statx', libcStatx(fd.raw, EMPTY, AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, statxBytes))
  return (statxView.getUint32(8, true) & STATX_ATTR_MOUNT_ROOT) !== 0
}

const target = new Uint8Array(4096)
const DIGIT = 0x30

/**
 * Returns the inode number of a namespace from the target of its link, such as "user:[4026531837]". This costs a
 * third of stat(2), which allocates an inode.
 *
 * @param path of a link below /proc/TID/ns
 * @throws {SyscallError} ENOENT, EACCES
 */
export function namespaceInode(dir: number, path: Uint8Array): number {
  const length = check('readlinkat', Number(libcReadlinkat(dir, path, target, target.length)))
  let value = 0
  for (let at = 0; at < length; at++) {
    const digit = target[at]! - DIGIT
    if (digit >= 0 && digit < 10) value = value * 10 + digit
  }
  return value
}

/** Returns the mode of `path` below a directory; a symbolic link at the end is not followed. */
export function linkMode(dir: Handle, path: Uint8Array): Mode {
  check('statx', libcStatx(dir.raw, path, AT_SYMLINK_NOFOLLOW, IDENTITY, statxBytes))
  return statxView.getUint16(28, true) as Mode
}

const statfsBytes = new Uint8Array(120)
const statfsView = new DataView(statfsBytes.buffer)

/** `struct statfs` of 64-bit machines: 0 s64 type | 40 u64 files | 48 u64 ffree | 56 fsid | 80 s64 flags (ST_*). */
export interface FileSystem {
  readonly type: number
  readonly flags: number
}

export function fstatfs(fd: Handle): FileSystem {
  check('fstatfs', libcFstatfs(fd.raw, statfsBytes))
  return { type: statfsView.getUint32(0, true), flags: statfsView.getUint32(80, true) }
}

export const fileSystemType = (fd: Handle): number => fstatfs(fd).type

/** Returns `f_fsid`, at byte 56: of a tmpfs 64 random bits, which the kernel chose when it was made; 0 before 5.13. */
export function fileSystemId(fd: Handle): bigint {
  check('fstatfs', libcFstatfs(fd.raw, statfsBytes))
  return statfsView.getBigUint64(56, true)
}

/** Returns how many inodes a file system has; undefined if it does not count them, as a tmpfs with `nr_inodes=0`. */
export function inodesOf(fd: Handle): number | undefined {
  check('fstatfs', libcFstatfs(fd.raw, statfsBytes))
  const files = statfsView.getBigUint64(40, true)
  return files === 0n ? undefined : Number(files - statfsView.getBigUint64(48, true))
}

/** Returns a path to the file of a handle; it works where /proc is a procfs of our pid namespace. */
export const linkOf = (handle: Handle): Uint8Array => cstring(`/proc/self/fd/${handle.raw}`)

/** Returns the target of a symbolic link that was opened with O_PATH and O_NOFOLLOW. */
export function readlink(link: Handle): Uint8Array {
  const length = check('readlinkat', Number(libcReadlinkat(link.raw, EMPTY, target, target.length)))
  return target.slice(0, length)
}

const { faccessat2 } = ownSyscalls(process.arch)
const syscallFaccessat2 = libc.func('long syscall(long number, int dir, uint8_t *path, int mode, int flags)')

/**
 * Checks whether the calling thread, with its present credentials, may open a file; it opens nothing.
 *
 * @throws {SyscallError} EACCES; EPERM by the device rules of its control group
 * @see faccessat2(2)
 */
export function access(file: Handle, mode: number): void {
  check('faccessat2', syscallFaccessat2(faccessat2, file.raw, EMPTY, mode, AT_EACCESS | AT_EMPTY_PATH))
}

/** Returns whether the calling thread finds no `name` in `dir` (ENOENT); false if it cannot find out. */
export const isAbsent = (dir: Handle, name: Uint8Array): boolean =>
  syscallFaccessat2(faccessat2, dir.raw, name, F_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) !== 0 &&
  lastErrno() === errnos.ENOENT

const fdinfo = Buffer.alloc(4096)

/**
 * Returns the mount id of one of our descriptors, as in mountinfo; the kernel reuses these ids. It comes from fdinfo,
 * since statx(2) would ask the file system: FUSE refuses processes outside its user namespace.
 *
 * @param proc the host's procfs
 * @see proc_pid_fdinfo(5)
 */
export function mountNumber(proc: Handle, fd: Handle): number {
  using file = openat(proc.raw, cstring(`self/fdinfo/${fd.raw}`), O_RDONLY)
  const [, number] = /^mnt_id:\s*(\d+)$/m.exec(fdinfo.toString('latin1', 0, read(file, fdinfo))) ?? []
  return Number(number)
}
