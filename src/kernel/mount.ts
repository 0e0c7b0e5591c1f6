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
const MOUNT_SETATTR = 442

const AT_EMPTY_PATH = 0x1000
const AT_RECURSIVE = 0x8000
const OPEN_TREE_CLONE = 1
const OPEN_TREE_CLOEXEC = 0o2000000
const MOVE_MOUNT_F_EMPTY_PATH = 0x4
const MOVE_MOUNT_T_EMPTY_PATH = 0x40
const EMPTY = new Uint8Array([0])

const libcMount = libc.func(
  'int mount(uint8_t *source, uint8_t *target, uint8_t *type, unsigned long flags, uint8_t *data)',
)
const syscallOpenTree = libc.func('long syscall(long number, int dir, uint8_t *path, uint32_t flags)')
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

/** Attaches a detached copy on the directory `target`. @see move_mount(2) */
export function attachTree(tree: Handle, target: Handle): void {
  const flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
  check('move_mount', syscallMoveMount(MOVE_MOUNT, tree.raw, EMPTY, target.raw, EMPTY, flags))
}
