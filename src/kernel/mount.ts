import { AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW } from '../abi/fcntl.ts'
import {
  MNT_DETACH,
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_T_EMPTY_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  UMOUNT_NOFOLLOW,
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

/**
 * Mounts a file system, or changes the propagation of a mount; only for our paths, in a mount namespace of ours.
 *
 * @throws {SyscallError} EPERM, ENODEV for a file system that the kernel lacks, EINVAL for its options
 * @see mount(2)
 */
export function mount(type: string, target: string, flags: bigint, data = ''): void {
  check('mount', libcMount(cstring(type), cstring(target), cstring(type), flags, cstring(data)))
}

/**
 * Calls mount(2) with a container's bytes and the calling thread's present credentials.
 *
 * @param source a path as the calling thread sees it, or another source that the type takes
 * @throws {SyscallError} the kernel's errno for a caller that may do everything
 */
export function mountRaw(
  type: Uint8Array,
  source: Uint8Array | null,
  target: string,
  { flags, data }: { readonly flags: bigint; readonly data: Uint8Array | null },
): void {
  check('mount', libcMount(source, cstring(target), type, flags, data))
}

/**
 * Calls mount(2) with MS_REMOUNT for the mount whose root is the working directory, in the calling thread's mount
 * namespace.
 *
 * @throws {SyscallError} the kernel's errno for a caller that may do everything; EINVAL if it is not the root of a
 *   mount
 */
export function remountHere(flags: bigint, data: Uint8Array | null): void {
  check('mount', libcMount(null, DOT, null, flags, data))
}

/** Detaches the mount at `target`, a path of ours; the mount ends when nothing uses it any more (MNT_DETACH). */
export function unmount(target: string): void {
  check('umount2', libcUmount2(cstring(target), MNT_DETACH))
}

/**
 * Detaches the mount at a name in the calling thread's working directory.
 *
 * @throws {SyscallError} EINVAL if none is there
 */
export function detachAt(name: Uint8Array): void {
  check('umount2', libcUmount2(name, MNT_DETACH | UMOUNT_NOFOLLOW))
}

/**
 * Returns a detached copy of the mount at `path`, with the mounts below it if `recursive`. The copy ends with its
 * descriptor unless it was attached.
 *
 * @see open_tree(2)
 */
export function openTree(path: string, recursive = false): Fd {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0)
  return new Fd(check('open_tree', syscallOpenTree(numbers.open_tree, AT_FDCWD, cstring(path), flags)))
}

/**
 * Returns a detached copy of the mount of `file`, with that file or directory as its root; see `openTree`.
 *
 * @throws {SyscallError} EINVAL if its mount is not in the calling thread's mount namespace
 */
export function copyTree(file: Handle, recursive: boolean): Fd {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0)
  return new Fd(check('open_tree', syscallOpenTree(numbers.open_tree, file.raw, EMPTY, flags)))
}

/**
 * Returns a detached mount of the single file `name` in `dir`, which may itself be on a detached mount.
 *
 * @throws {SyscallError} EINVAL for a detached mount before 6.15
 */
export function cloneFile(dir: Handle, name: Uint8Array): Fd {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW
  return new Fd(check('open_tree', syscallOpenTree(numbers.open_tree, dir.raw, name, flags)))
}

/**
 * Makes the mount of the working directory the root of the calling thread's mount namespace, and mounts the old root
 * over it.
 *
 * @throws {SyscallError} EINVAL if the old root is the kernel's first root (an initramfs), which cannot be replaced
 * @see pivot_root(2), linux/fs/namespace.c
 */
export function pivotRoot(): void {
  check('pivot_root', syscallPivotRoot(numbers.pivot_root, DOT, DOT))
}

/** Attaches a detached copy on `target`, which must be in the calling thread's mount namespace. @see move_mount(2) */
export function moveMount(tree: Handle, target: Handle): void {
  const flags = Number(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
  check('move_mount', syscallMoveMount(numbers.move_mount, tree.raw, EMPTY, target.raw, EMPTY, flags))
}
