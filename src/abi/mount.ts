import { O_CLOEXEC } from './fcntl.ts'

/** Flags of mount(2), linux/mount.h. */
export const MS_RDONLY = 1n << 0n
export const MS_NOSUID = 1n << 1n
export const MS_NODEV = 1n << 2n
export const MS_NOEXEC = 1n << 3n
export const MS_SYNCHRONOUS = 1n << 4n
export const MS_REMOUNT = 1n << 5n
export const MS_MANDLOCK = 1n << 6n
export const MS_DIRSYNC = 1n << 7n
export const MS_NOSYMFOLLOW = 1n << 8n
export const MS_NOATIME = 1n << 10n
export const MS_NODIRATIME = 1n << 11n
export const MS_BIND = 1n << 12n
export const MS_MOVE = 1n << 13n
export const MS_REC = 1n << 14n
export const MS_SILENT = 1n << 15n
export const MS_POSIXACL = 1n << 16n
export const MS_UNBINDABLE = 1n << 17n
export const MS_PRIVATE = 1n << 18n
export const MS_SLAVE = 1n << 19n
export const MS_SHARED = 1n << 20n
export const MS_RELATIME = 1n << 21n
export const MS_I_VERSION = 1n << 23n
export const MS_STRICTATIME = 1n << 24n
export const MS_LAZYTIME = 1n << 25n
/** Only the kernel may set it: mount(2) refuses it. */
export const MS_NOUSER = 1n << 31n
export const MS_MGC_MSK = 0xffff_0000n
export const MS_MGC_VAL = 0xc0ed_0000n

/** Attributes of a mount, of fsmount(2) and mount_setattr(2). */
export const MOUNT_ATTR_RDONLY = 0x1n
export const MOUNT_ATTR_NOSUID = 0x2n
export const MOUNT_ATTR_NODEV = 0x4n
export const MOUNT_ATTR_NOEXEC = 0x8n
export const MOUNT_ATTR_NOATIME = 0x10n
export const MOUNT_ATTR_STRICTATIME = 0x20n
/** How the policy of access times is told: relatime is none of them. */
export const MOUNT_ATTR__ATIME = 0x70n
export const MOUNT_ATTR_NODIRATIME = 0x80n
/** How access times are kept, all of it. */
export const ACCESS_TIMES = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME
export const MOUNT_ATTR_NOSYMFOLLOW = 0x200000n

/**
 * The attributes which are set only after a mount was locked: set before, they would be locked too. The policy of
 * access times is locked as it is in any case.
 */
export const SET_LATER = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW
const FSMOUNT_VALID = SET_LATER | MOUNT_ATTR_NODEV | ACCESS_TIMES

/** enum fsconfig_command, linux/mount.h. */
export const FSCONFIG = {
  SET_FLAG: 0,
  SET_STRING: 1,
  SET_BINARY: 2,
  SET_PATH: 3,
  SET_PATH_EMPTY: 4,
  SET_FD: 5,
  CMD_CREATE: 6,
  CMD_RECONFIGURE: 7,
  CMD_CREATE_EXCL: 8,
} as const

/** The attributes of SET_LATER that flags of mount(2) mean. */
export function laterOf(flags: bigint): bigint {
  const pairs = [
    [MS_RDONLY, MOUNT_ATTR_RDONLY],
    [MS_NOSUID, MOUNT_ATTR_NOSUID],
    [MS_NOEXEC, MOUNT_ATTR_NOEXEC],
    [MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW],
  ] as const
  return pairs.reduce((set, [flag, attribute]) => ((flags & flag) === 0n ? set : set | attribute), 0n)
}

/** How access times are kept by flags of mount(2), which replaces the policy of before. */
export function timesIn(flags: bigint): AttributeChange {
  const noatime = (flags & MS_NOATIME) === 0n ? 0n : MOUNT_ATTR_NOATIME
  const nodiratime = (flags & MS_NODIRATIME) === 0n ? 0n : MOUNT_ATTR_NODIRATIME
  return { set: noatime | nodiratime, clear: noatime === 0n ? 0n : MOUNT_ATTR__ATIME }
}

/** What mount_setattr(2) changes, as far as we know it. */
export interface AttributeChange {
  readonly set: bigint
  readonly clear: bigint
}

/** Of mount_setattr(2) alone: with the user namespace of the struct. */
export const MOUNT_ATTR_IDMAP = 0x100000n

/** Flags of umount2(2). */
export const MNT_FORCE = 0x1
export const MNT_DETACH = 0x2
export const UMOUNT_NOFOLLOW = 0x8

/** Flags of open_tree(2), fsopen(2) and fsmount(2). */
export const OPEN_TREE_CLONE = 0x1
export const OPEN_TREE_CLOEXEC = O_CLOEXEC
export const FSOPEN_CLOEXEC = 0x1
export const FSMOUNT_CLOEXEC = 0x1

/** Flags of fspick(2). */
export const FSPICK_CLOEXEC = 0x1
export const FSPICK_SYMLINK_NOFOLLOW = 0x2
export const FSPICK_NO_AUTOMOUNT = 0x4
export const FSPICK_EMPTY_PATH = 0x8
export const FSPICK_VALID = FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW | FSPICK_NO_AUTOMOUNT | FSPICK_EMPTY_PATH

/** `struct mount_attr`: 0 u64 set | 8 u64 clear | 16 u64 propagation | 24 u64 user namespace. */
export const MOUNT_ATTR_SIZE = 32

/** @returns undefined if it changes something else too, or nothing that the kernel takes */
export function decodeAttributes(bytes: Uint8Array): AttributeChange | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, MOUNT_ATTR_SIZE)
  const [set, clear, propagation, userns] = [0, 8, 16, 24].map((at) => view.getBigUint64(at, true))
  const known = ((set! | clear!) & ~FSMOUNT_VALID) === 0n && propagation === 0n && userns === 0n
  const clearsAtime = (clear! & MOUNT_ATTR__ATIME) === MOUNT_ATTR__ATIME
  const takesAtime = clearsAtime ? isFsmountAttributes(set!) : ((set! | clear!) & MOUNT_ATTR__ATIME) === 0n
  return known && takesAtime ? { set: set!, clear: clear! } : undefined
}

/** Flags of a mount that statfs(2) reports, linux/statfs.h. */
export const ST_RDONLY = 0x1
export const ST_NOSUID = 0x2
export const ST_NODEV = 0x4
export const ST_NOEXEC = 0x8
export const ST_NOATIME = 0x400
export const ST_NODIRATIME = 0x800
export const ST_RELATIME = 0x1000
export const ST_NOSYMFOLLOW = 0x2000

/** The attributes of a mount by its flags of statfs(2). */
export function attributesOf(statfs: number): bigint {
  const pairs = [
    [ST_RDONLY, MOUNT_ATTR_RDONLY],
    [ST_NOSUID, MOUNT_ATTR_NOSUID],
    [ST_NOEXEC, MOUNT_ATTR_NOEXEC],
    [ST_NODIRATIME, MOUNT_ATTR_NODIRATIME],
    [ST_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW],
  ] as const
  const otherwise = (statfs & ST_RELATIME) !== 0 ? 0n : MOUNT_ATTR_STRICTATIME
  const atime = (statfs & ST_NOATIME) !== 0 ? MOUNT_ATTR_NOATIME : otherwise
  return pairs.reduce((set, [flag, attribute]) => ((statfs & flag) === 0 ? set : set | attribute), atime)
}

/** Are these attributes that fsmount(2) takes? Of the atime policies it takes one. */
export function isFsmountAttributes(attributes: bigint): boolean {
  const atime = attributes & MOUNT_ATTR__ATIME
  const one = atime === 0n || atime === MOUNT_ATTR_NOATIME || atime === MOUNT_ATTR_STRICTATIME
  return one && (attributes & ~FSMOUNT_VALID) === 0n
}

/** The flags of mount(2) without the magic of the 1990s, which the kernel drops first. */
export const withoutMagic = (flags: bigint): bigint => ((flags & MS_MGC_MSK) === MS_MGC_VAL ? flags & 0xffffn : flags)

/** Flags of move_mount(2). The first two: of these paths only the descriptor counts. */
export const MOVE_MOUNT_F_EMPTY_PATH = 0x4n
export const MOVE_MOUNT_T_EMPTY_PATH = 0x40n
export const MOVE_MOUNT_F_SYMLINKS = 0x1n
export const MOVE_MOUNT_F_AUTOMOUNTS = 0x2n
export const MOVE_MOUNT_T_SYMLINKS = 0x10n
export const MOVE_MOUNT_T_AUTOMOUNTS = 0x20n

/** Flags that say how the paths are looked up; what else there is changes what is done. */
export const MOVE_MOUNT_LOOKUP =
  MOVE_MOUNT_F_EMPTY_PATH |
  MOVE_MOUNT_T_EMPTY_PATH |
  MOVE_MOUNT_F_SYMLINKS |
  MOVE_MOUNT_F_AUTOMOUNTS |
  MOVE_MOUNT_T_SYMLINKS |
  MOVE_MOUNT_T_AUTOMOUNTS
