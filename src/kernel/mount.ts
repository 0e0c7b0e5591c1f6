import { AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW } from '../abi/fcntl.ts'
import {
  MNT_DETACH,
  MOUNT_ATTR_IDMAP,
  MOUNT_ATTR_SIZE,
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_T_EMPTY_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
} from '../abi/mount.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { Fd } from './fd.ts'
import type { Handle } from './handle.ts'
import { check, cstring, libc } from './libc.ts'

const numbers = ownSyscalls(process.arch)
const EMPTY = new Uint8Array([0])
const DOT = new Uint8Array([0x2e, 0])

const libcMount = libc.func(
  'int mount(uint8_t *source, uint8_t *target, uint8_t *type, unsigned long flags, uint8_t *data)',
)
const syscallPivotRoot = libc.func('long syscall(long number, uint8_t *root, uint8_t *old)')
const libcUmount2 = libc.func('int umount2(uint8_t *target, int flags)')
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
export function mount(type: string, target: string, flags: bigint, data = ''): void {
  check('mount', libcMount(cstring(type), cstring(target), cstring(type), flags, cstring(data)))
}

/**
 * mount(2) with the bytes of a container, as the calling thread is now.
 *
 * @param source a path as the calling thread sees it, or what else the type takes
 * @throws {SyscallError} what the kernel says to a caller that may do everything
 */
export function mountRaw(
  type: Uint8Array,
  source: Uint8Array | null,
  target: string,
  { flags, data }: { readonly flags: bigint; readonly data: Uint8Array | null },
): void {
  check('mount', libcMount(source, cstring(target), type, flags, data))
}

/** Takes away what is mounted at `target`, a path of ours; it goes when nothing uses it any more. */
export function unmount(target: string): void {
  check('umount2', libcUmount2(cstring(target), MNT_DETACH))
}

/**
 * A detached copy of the mount at `path`, with the mounts below it if `recursive`; it vanishes with its descriptor
 * unless it was attached.
 *
 * @see open_tree(2)
 */
export function openTree(path: string, recursive = false): Fd {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0)
  return new Fd(check('open_tree', syscallOpenTree(numbers.open_tree, AT_FDCWD, cstring(path), flags)))
}

/**
 * A detached copy of the one file `name` in `dir`, which may itself lie on a detached mount.
 *
 * @throws {SyscallError} EINVAL for a detached mount before 6.15
 */
export function cloneFile(dir: Handle, name: Uint8Array): Fd {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW
  return new Fd(check('open_tree', syscallOpenTree(numbers.open_tree, dir.raw, name, flags)))
}

/**
 * Makes the mount on which the working directory lies the root of the mount namespace of the calling thread, and lays the old
 * root on top of it.
 *
 * @throws {SyscallError} EINVAL where the old root is the kernel's first one (an initramfs), which nothing can replace
 * @see pivot_root(2), linux/fs/namespace.c
 */
export function pivotRoot(): void {
  check('pivot_root', syscallPivotRoot(numbers.pivot_root, DOT, DOT))
}

/** What mount_setattr(2) changes. */
interface AttributeChange {
  /** MOUNT_ATTR_*. */
  readonly set?: bigint
  readonly clear?: bigint
  /** MS_PRIVATE, say. */
  readonly propagation?: bigint
  /** The mapping for an idmapped mount: what the disk calls 0 is then the root of that user namespace. */
  readonly userns?: Handle
}

/**
 * Changes attributes of a detached copy and of every mount in it.
 *
 * @throws {SyscallError} EINVAL if the file system knows no idmapped mounts; EPERM for what is locked
 * @see mount_setattr(2): `struct mount_attr` is 0 u64 set | 8 u64 clear | 16 u64 propagation | 24 u64 userns
 */
export function mountSetattr(tree: Handle, { set = 0n, clear = 0n, propagation = 0n, userns }: AttributeChange): void {
  const attributes = Buffer.alloc(MOUNT_ATTR_SIZE)
  attributes.writeBigUInt64LE(set | (userns ? MOUNT_ATTR_IDMAP : 0n), 0)
  attributes.writeBigUInt64LE(clear, 8)
  attributes.writeBigUInt64LE(propagation, 16)
  attributes.writeBigUInt64LE(BigInt(userns?.raw ?? 0), 24)
  const flags = AT_EMPTY_PATH | AT_RECURSIVE
  check(
    'mount_setattr',
    syscallMountSetattr(numbers.mount_setattr, tree.raw, EMPTY, flags, attributes, attributes.length),
  )
}

/** Attaches a detached copy on `target`, which must lie in the mount namespace of the calling thread. @see move_mount(2) */
export function moveMount(tree: Handle, target: Handle): void {
  const flags = Number(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
  check('move_mount', syscallMoveMount(numbers.move_mount, tree.raw, EMPTY, target.raw, EMPTY, flags))
}
