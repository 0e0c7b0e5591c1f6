import { AT_EMPTY_PATH, AT_RECURSIVE } from '../abi/fcntl.ts'
import { MOUNT_ATTR_IDMAP, MOUNT_ATTR_SIZE } from '../abi/mount.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import type { Handle } from './handle.ts'
import { check, libc } from './libc.ts'

const { mount_setattr } = ownSyscalls(process.arch)
const EMPTY = new Uint8Array([0])

const syscallMountSetattr = libc.func(
  'long syscall(long number, int dir, uint8_t *path, uint32_t flags, uint8_t *attributes, size_t size)',
)

/** A change by mount_setattr(2). */
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
