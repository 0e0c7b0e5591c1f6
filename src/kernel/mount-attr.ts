import { AT_EMPTY_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { MNT_DETACH, MOUNT_ATTR_SIZE, UMOUNT_NOFOLLOW } from '../abi/mount.ts'
import { ownSyscalls } from '../abi/syscalls.ts'
import { openat, read } from './files.ts'
import type { Handle } from './handle.ts'
import { check, cstring, libc } from './libc.ts'

const { mount_setattr } = ownSyscalls(process.arch)
const EMPTY = new Uint8Array([0])

const syscallMountSetattr = libc.func(
  'long syscall(long number, int dir, uint8_t *path, uint32_t flags, uint8_t *attributes, size_t size)',
)
const libcUmount2 = libc.func('int umount2(uint8_t *target, int flags)')

/**
 * Sets attributes of one mount, which must be attached in the calling thread's mount namespace.
 *
 * @param set MOUNT_ATTR_*
 * @throws {SyscallError} EINVAL if it is not attached there
 */
export function changeMount(mounted: Handle, set: bigint): void {
  const attributes = Buffer.alloc(MOUNT_ATTR_SIZE)
  attributes.writeBigUInt64LE(set, 0)
  check(
    'mount_setattr',
    syscallMountSetattr(mount_setattr, mounted.raw, EMPTY, AT_EMPTY_PATH, attributes, MOUNT_ATTR_SIZE),
  )
}

/**
 * Detaches the mount at a name in the calling thread's working directory.
 *
 * @throws {SyscallError} EINVAL if none is there
 */
export function detachAt(name: Uint8Array): void {
  check('umount2', libcUmount2(name, MNT_DETACH | UMOUNT_NOFOLLOW))
}

const fdinfo = Buffer.alloc(4096)

/**
 * Returns the mount id of one of our descriptors, as in mountinfo; the kernel reuses these ids. It comes from fdinfo,
 * since statx(2) would ask the file system: FUSE refuses processes outside its user namespace.
 *
 * @param proc the host's procfs
 */
export function mountNumber(proc: Handle, fd: Handle): number {
  using file = openat(proc.raw, cstring(`self/fdinfo/${fd.raw}`), O_RDONLY)
  const [, number] = /^mnt_id:\s*(\d+)$/m.exec(fdinfo.toString('latin1', 0, read(file, fdinfo))) ?? []
  return Number(number)
}
