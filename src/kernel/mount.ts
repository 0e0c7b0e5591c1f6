import { AT_FDCWD } from '../abi/fcntl.ts'
import { Fd } from './fd.ts'
import type { Handle } from './handle.ts'
import { check, cstring, libc } from './libc.ts'

export const MS_NOSUID = 2
export const MS_NODEV = 4
export const MS_NOEXEC = 8
export const MS_REC = 0x4000
export const MS_PRIVATE = 0x40000

export const MOUNT_ATTR_RDONLY = 1n
export const MOUNT_ATTR_NOSUID = 2n
export const MOUNT_ATTR_NODEV = 4n
const MOUNT_ATTR_IDMAP = 0x100000n

/** The new mount calls came after the numbers were unified: one number on every architecture. */
const OPEN_TREE = 428
const MOVE_MOUNT = 429
const FSOPEN = 430
const FSCONFIG = 431
const FSMOUNT = 432
const MOUNT_SETATTR = 442

const AT_EMPTY_PATH = 0x1000
const AT_RECURSIVE = 0x8000
const OPEN_TREE_CLONE = 1
const OPEN_TREE_CLOEXEC = 0o2000000
const MOVE_MOUNT_F_EMPTY_PATH = 0x4
const MOVE_MOUNT_T_EMPTY_PATH = 0x40
const AT_SYMLINK_NOFOLLOW = 0x100
const FSCONFIG_SET_STRING = 1
const FSCONFIG_CMD_CREATE = 6
const FD_CLOEXEC = 1
const EMPTY = new Uint8Array([0])

const libcMount = libc.func(
  'int mount(uint8_t *source, uint8_t *target, uint8_t *type, unsigned long flags, uint8_t *data)',
)
const syscallOpenTree = libc.func('long syscall(long number, int dir, uint8_t *path, uint32_t flags)')
const syscallFsopen = libc.func('long syscall(long number, uint8_t *type, uint32_t flags)')
const syscallFsconfig = libc.func(
  'long syscall(long number, int context, uint32_t command, uint8_t *key, uint8_t *value, int aux)',
)
const syscallFsmount = libc.func('syscall', 'long', ['long', 'int', 'uint32_t', 'uint32_t'])
const syscallMoveMount = libc.func(
  'long syscall(long number, int from, uint8_t *fromPath, int to, uint8_t *toPath, uint32_t flags)',
)
const syscallMountSetattr = libc.func(
  'long syscall(long number, int dir, uint8_t *path, uint32_t flags, uint8_t *attributes, size_t size)',
)

/**
 * Mounts, or changes the propagation of what is mounted. Only for paths of ours, in a mount namespace of ours.
 *
 * @throws {SyscallError} EPERM, ENODEV for a file system that the kernel lacks, EINVAL for its options
 * @see mount(2)
 */
export function mount(type: string, target: string, flags: number, data = ''): void {
  check('mount', libcMount(cstring(type), cstring(target), cstring(type), flags, cstring(data)))
}

/**
 * A detached copy of the mount at `path`, with the mounts below it if `recursive`; it vanishes with its descriptor
 * unless it was attached.
 *
 * @see open_tree(2)
 */
export function cloneTree(path: string, recursive = false): Fd {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0)
  return new Fd(check('open_tree', syscallOpenTree(OPEN_TREE, AT_FDCWD, cstring(path), flags)))
}

/**
 * A detached copy of the one file `name` in `dir`, which may itself lie on a detached mount.
 *
 * @throws {SyscallError} EINVAL for a detached mount before 6.15
 */
export function cloneFile(dir: Handle, name: Uint8Array): Fd {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW
  return new Fd(check('open_tree', syscallOpenTree(OPEN_TREE, dir.raw, name, flags)))
}

/** A tmpfs that is mounted nowhere and vanishes with its descriptor. @param options such as `[['mode', '1777']]` */
export function detachedTmpfs(options: readonly (readonly [key: string, value: string])[]): Fd {
  using context = new Fd(check('fsopen', syscallFsopen(FSOPEN, cstring('tmpfs'), FD_CLOEXEC)))
  for (const [key, value] of options) {
    check('fsconfig', syscallFsconfig(FSCONFIG, context.raw, FSCONFIG_SET_STRING, cstring(key), cstring(value), 0))
  }
  check('fsconfig', syscallFsconfig(FSCONFIG, context.raw, FSCONFIG_CMD_CREATE, null, null, 0))
  return new Fd(check('fsmount', syscallFsmount(FSMOUNT, context.raw, FD_CLOEXEC, 0)))
}

/**
 * Sets attributes on a detached copy and on every mount in it.
 *
 * @param userns the mapping for an idmapped mount: what the disk calls 0 is then the root of that user namespace
 * @throws {SyscallError} EINVAL if the file system knows no idmapped mounts
 * @see mount_setattr(2): `struct mount_attr` is 0 u64 set | 8 u64 clear | 16 u64 propagation | 24 u64 userns
 */
export function setMountAttributes(tree: Handle, set: bigint, userns?: Handle): void {
  const attributes = Buffer.alloc(32)
  attributes.writeBigUInt64LE(set | (userns ? MOUNT_ATTR_IDMAP : 0n), 0)
  attributes.writeBigUInt64LE(BigInt(userns?.raw ?? 0), 24)
  const flags = AT_EMPTY_PATH | AT_RECURSIVE
  check('mount_setattr', syscallMountSetattr(MOUNT_SETATTR, tree.raw, EMPTY, flags, attributes, attributes.length))
}

/** Attaches a detached copy on `target`, which must lie in the mount namespace of the calling thread. @see move_mount(2) */
export function attachTree(tree: Handle, target: Handle): void {
  const flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
  check('move_mount', syscallMoveMount(MOVE_MOUNT, tree.raw, EMPTY, target.raw, EMPTY, flags))
}
