import { readFileSync } from 'node:fs'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD, O_NONBLOCK, O_RDONLY, R_OK, W_OK } from '../abi/fcntl.ts'
import { MountRefused } from '../caller/mounts/mounter-client.ts'
import type { Parameter } from '../calls/context.ts'
import { IN_MEMORY, type Source } from '../calls/mounts.ts'
import { access } from '../kernel/access.ts'
import { isErrno, SyscallError } from '../kernel/error.ts'
import { linkOf, openat, read } from '../kernel/files.ts'
import { fsopen } from '../kernel/fs-context.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'

/** Names of flash devices, see linux/drivers/mtd/mtdsuper.c get_tree_mtd(). */
const FLASH = /^mtd(\d|:)/

/**
 * Requires that the source is a block device, since only a device is resolved with the caller's rights. Any other
 * source is a string for the driver, which takes it for something that the mounting process, root of the host, may
 * use: a pool, flash memory, a share of the hypervisor, or a server on which it authenticates with the host's keys
 * and tickets. Some file systems even show the host itself.
 *
 * @throws {MountRefused} for such a type or source
 * @throws {SyscallError} for an unknown type
 */
export function mustBeOfDevice({ type, source }: { readonly type: string; readonly source: Source }): void {
  if (IN_MEMORY.has(type)) return
  // fsopen(2) loads the module of the type, which is not in /proc/filesystems before.
  fsopen(cstring(type))[Symbol.dispose]()
  if (isWithoutDevice(type) || FLASH.test(source.text ?? '')) throw new MountRefused('type', errno('EPERM'))
}

const isWithoutDevice = (type: string): boolean =>
  readFileSync('/proc/filesystems', 'latin1')
    .split('\n')
    .includes(`nodev\t${type.split('.')[0]}`)

/** File systems whose options show the behaviour on errors only where it differs from what the image says. */
const EXT: ReadonlySet<string> = new Set(['ext2', 'ext3', 'ext4'])

interface Usable extends Source {
  /** A parameter that is set before the caller's own. */
  readonly first?: Parameter
}

/**
 * Returns the source after trying to open it with the caller's rights, by the very node that the caller named. The
 * calling process must be in the caller's cgroups. Only opening shows two facts:
 *
 * - Whether the device rules allow it: mounting a device that is already mounted checks only the device number.
 * - Whether the node may be used: on a file system that was mounted inside a container (FUSE, overlay) a node with any
 *   number can be made, which fails to open with EACCES; nothing else shows this (SB_I_NODEV).
 *
 * @see linux/fs/super.c get_tree_bdev_flags(), linux/fs/namei.c may_open_dev(), inode_permission()
 */
export function openSource({ node, ...source }: Source, type: string): Usable {
  if (!('dev' in source.kind)) return source
  if (!node) return { ...source, kind: { errno: errno('EACCES') } }
  try {
    // The device is opened for reading only: closing a writable descriptor notifies watchers of the device (udev).
    access(node, R_OK | (source.kind.writable ? W_OK : 0))
    using device = openat(AT_FDCWD, linkOf(node), O_RDONLY | O_NONBLOCK)
    return EXT.has(type) ? { ...source, first: onErrors(device) } : source
  } catch (error) {
    if (error instanceof SyscallError) return { ...source, kind: { errno: error.errno } }
    throw error
  }
}

/**
 * Returns the `errors` option for an image of ext2, ext3 or ext4. The image itself says what happens on an error,
 * which may be to panic, so the option is set explicitly: to the image's choice if that is "continue", else to
 * remount-ro. The image may have changed by the time the kernel reads it.
 *
 * @see linux/fs/ext4/ext4.h `struct ext4_super_block`: at 1024, 60 u16 errors: 1 continue, 2 remount-ro, 3 panic
 */
function onErrors(device: Handle): Parameter {
  const start = Buffer.alloc(2048)
  return ['errors', read(device, start) === start.length && start.readUInt16LE(1084) === 1 ? 'continue' : 'remount-ro']
}

/**
 * Runs `action`, and replaces ENOENT by the errno that the caller would have got: a source that the caller cannot use
 * does not exist in the root directory of the mount.
 */
export function orOwnErrno({ kind }: Source, action: () => void): void {
  try {
    action()
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || !('errno' in kind)) throw error
    throw new MountRefused('source', kind.errno)
  }
}
