/** Flags of mount(2), linux/mount.h. */
export const MS_RDONLY = 1n << 0n
const MS_NOSUID = 1n << 1n
const MS_NOEXEC = 1n << 3n
export const MS_REMOUNT = 1n << 5n
const MS_NOSYMFOLLOW = 1n << 8n
export const MS_BIND = 1n << 12n
export const MS_MOVE = 1n << 13n
export const MS_UNBINDABLE = 1n << 17n
export const MS_PRIVATE = 1n << 18n
export const MS_SLAVE = 1n << 19n
export const MS_SHARED = 1n << 20n
/** Only the kernel may set it: mount(2) refuses it. */
export const MS_NOUSER = 1n << 31n
export const MS_MGC_MSK = 0xffff_0000n
export const MS_MGC_VAL = 0xc0ed_0000n

/** Attributes of a mount, of fsmount(2) and mount_setattr(2). */
export const MOUNT_ATTR_RDONLY = 0x1n
export const MOUNT_ATTR_NOSUID = 0x2n
export const MOUNT_ATTR_NODEV = 0x4n
const MOUNT_ATTR_NOEXEC = 0x8n
const MOUNT_ATTR_NOATIME = 0x10n
const MOUNT_ATTR_STRICTATIME = 0x20n
/** How the policy of access times is told: relatime is none of them. */
const MOUNT_ATTR__ATIME = 0x70n
const MOUNT_ATTR_NODIRATIME = 0x80n
const MOUNT_ATTR_NOSYMFOLLOW = 0x200000n

/**
 * What is set after a mount was locked against changes: while it is locked, what is set is locked too, but for the policy
 * of access times, which is locked as it is.
 */
export const SET_LATER = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW
const FSMOUNT_VALID = SET_LATER | MOUNT_ATTR_NODEV | MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME

/** enum fsconfig_command, linux/mount.h. */
export const fsconfig = {
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
const MOVE_MOUNT_F_SYMLINKS = 0x1n
const MOVE_MOUNT_F_AUTOMOUNTS = 0x2n
export const MOVE_MOUNT_T_SYMLINKS = 0x10n
const MOVE_MOUNT_T_AUTOMOUNTS = 0x20n

/** Flags that say how the paths are looked up; what else there is changes what is done. */
export const MOVE_MOUNT_LOOKUP =
  MOVE_MOUNT_F_EMPTY_PATH |
  MOVE_MOUNT_T_EMPTY_PATH |
  MOVE_MOUNT_F_SYMLINKS |
  MOVE_MOUNT_F_AUTOMOUNTS |
  MOVE_MOUNT_T_SYMLINKS |
  MOVE_MOUNT_T_AUTOMOUNTS
