/** spawn.h of the GNU C library: the same on x86 and ARM. */
export const POSIX_SPAWN_SETSIGDEF = 0x04
export const POSIX_SPAWN_SETSIGMASK = 0x08
export const POSIX_SPAWN_SETSID = 0x80
export const POSIX_SPAWN_SETCGROUP = 0x100

/** `posix_spawnattr_t` has 336 bytes and `posix_spawn_file_actions_t` 80; others of the C library may have more. */
export const SPAWN_ATTRIBUTES_SIZE = 512
export const SPAWN_ACTIONS_SIZE = 256
