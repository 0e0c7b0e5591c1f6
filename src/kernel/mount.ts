import { AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW } from '../abi/fcntl.ts'
import {
  FSCONFIG,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  FSPICK_CLOEXEC,
  FSPICK_EMPTY_PATH,
  MNT_DETACH,
  MOUNT_ATTR_IDMAP,
  MOUNT_ATTR_SIZE,
  MOVE_MOUNT_F_EMPTY_PATH,
  MOVE_MOUNT_T_EMPTY_PATH,
  OPEN_TREE_CLOEXEC,
  OPEN_TREE_CLONE,
  UMOUNT_NOFOLLOW,
} from '../abi/mount.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { Fd, type Handle } from './fd.ts'
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
 * Returns a detached copy of the mount at `path`, without the mounts below it. The copy ends with its descriptor unless
 * it was attached.
 *
 * @see open_tree(2)
 */
export function openTree(path: string): Fd {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
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

const { mount_setattr } = ownSyscalls(process.arch)

const syscallMountSetattr = libc.func(
  'long syscall(long number, int dir, uint8_t *path, uint32_t flags, uint8_t *attributes, size_t size)',
)

interface AttributeChange {
  /** MOUNT_ATTR_*. */
  readonly set?: bigint
  readonly clear?: bigint
  /** A propagation type, such as MS_PRIVATE. */
  readonly propagation?: bigint
  /** The user namespace for an idmapped mount: id 0 on the disk then appears as the root of that namespace. */
  readonly userns?: Handle
}

/**
 * Changes attributes of a mount, which must be detached or attached in the calling thread's mount namespace.
 *
 * @param flags AT_RECURSIVE changes every mount below it too
 * @throws {SyscallError} EINVAL if it is attached elsewhere, or the file system has no idmapped mounts; EPERM for
 *   locked attributes
 * @see mount_setattr(2): `struct mount_attr` is 0 u64 set | 8 u64 clear | 16 u64 propagation | 24 u64 userns
 */
export function mountSetattr(
  mounted: Handle,
  change: AttributeChange,
  flags: 0 | typeof AT_RECURSIVE = AT_RECURSIVE,
): void {
  const { set = 0n, clear = 0n, propagation = 0n, userns } = change
  const attributes = Buffer.alloc(MOUNT_ATTR_SIZE)
  attributes.writeBigUInt64LE(set | (userns ? MOUNT_ATTR_IDMAP : 0n), 0)
  attributes.writeBigUInt64LE(clear, 8)
  attributes.writeBigUInt64LE(propagation, 16)
  attributes.writeBigUInt64LE(BigInt(userns?.raw ?? 0), 24)
  check(
    'mount_setattr',
    syscallMountSetattr(mount_setattr, mounted.raw, EMPTY, AT_EMPTY_PATH | flags, attributes, attributes.length),
  )
}

const syscallFsopen = libc.func('long syscall(long number, uint8_t *type, uint32_t flags)')
const syscallFsconfig = libc.func(
  'long syscall(long number, int context, uint32_t command, uint8_t *key, uint8_t *value, int aux)',
)
const syscallFspick = libc.func('long syscall(long number, int dir, uint8_t *path, uint32_t flags)')
const syscallFsmount = libc.func('syscall', 'long', ['long', 'int', 'uint32_t', 'uint32_t'])

/**
 * Opens a context in which a file system is described; it belongs to the user namespace of the calling thread.
 *
 * @param type NUL-terminated
 * @throws {SyscallError} ENODEV for a type that the kernel lacks
 * @see fsopen(2)
 */
export const fsopen = (type: Uint8Array): Fd =>
  new Fd(check('fsopen', syscallFsopen(numbers.fsopen, type, FSOPEN_CLOEXEC)))

/**
 * Opens a context in which the file system of a mount is changed. It keeps the file system alive, not the mount.
 *
 * @param root of the mount
 * @throws {SyscallError} EINVAL if it is not the root of a mount
 * @see fspick(2)
 */
export const fspick = (root: Handle): Fd =>
  new Fd(check('fspick', syscallFspick(numbers.fspick, root.raw, EMPTY, FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)))

/**
 * Sets a parameter of a context: a flag, or with `value` a string. Both are NUL-terminated and have at most 255 bytes.
 *
 * @throws {SyscallError} EINVAL for a parameter that the type does not know
 */
export function fsconfigSet(context: Handle, key: Uint8Array, value: Uint8Array | null): void {
  const command = value ? FSCONFIG.SET_STRING : FSCONFIG.SET_FLAG
  check('fsconfig', syscallFsconfig(numbers.fsconfig, context.raw, command, key, value, 0))
}

/**
 * Makes the file system, or finds it if it exists already, which `exclusive` refuses (EBUSY). Opens the parameter
 * `source` as the calling thread; may block as long as that device takes.
 *
 * @throws {SyscallError} the errno that mount(2) has for the source and its content
 */
export function fsconfigCreate(context: Handle, exclusive = false): void {
  const command = exclusive ? FSCONFIG.CMD_CREATE_EXCL : FSCONFIG.CMD_CREATE
  check('fsconfig', syscallFsconfig(numbers.fsconfig, context.raw, command, null, null, 0))
}

/** Changes the file system as the context's parameters say. @throws {SyscallError} EINVAL; EBUSY for `ro` in use */
export function fsconfigReconfigure(context: Handle): void {
  check('fsconfig', syscallFsconfig(numbers.fsconfig, context.raw, FSCONFIG.CMD_RECONFIGURE, null, null, 0))
}

/** Makes a detached mount of a context's file system; it ends with its descriptor. @param attributes MOUNT_ATTR_* */
export function fsmount(context: Handle, attributes = 0n): Fd {
  return new Fd(check('fsmount', syscallFsmount(numbers.fsmount, context.raw, FSMOUNT_CLOEXEC, Number(attributes))))
}

/** Makes a detached tmpfs, which ends with its descriptor. @param options such as `[['mode', '1777']]` */
export function detachedTmpfs(options: readonly (readonly [key: string, value: string])[]): Fd {
  using context = fsopen(cstring('tmpfs'))
  for (const [key, value] of options) fsconfigSet(context, cstring(key), cstring(value))
  fsconfigCreate(context)
  return fsmount(context)
}
