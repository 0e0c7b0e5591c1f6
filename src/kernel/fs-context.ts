import { FSCONFIG, FSMOUNT_CLOEXEC, FSOPEN_CLOEXEC, FSPICK_CLOEXEC, FSPICK_EMPTY_PATH } from '../abi/mount.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { Fd } from './fd.ts'
import type { Handle } from './handle.ts'
import { check, cstring, libc } from './libc.ts'

const numbers = ownSyscalls(process.arch)
const EMPTY = new Uint8Array([0])

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
