import { readFileSync } from 'node:fs'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD, O_NONBLOCK, O_RDONLY, R_OK, W_OK } from '../abi/fcntl.ts'
import { MountRefused } from '../caller/mounts/mounter-client.ts'
import type { Parameter } from '../calls/context.ts'
import { HUGETLBFS, type Source } from '../calls/mounts.ts'
import { access } from '../kernel/access.ts'
import { isErrno, SyscallError } from '../kernel/error.ts'
import { linkOf, openat, read } from '../kernel/files.ts'
import { fsopen } from '../kernel/fs-context.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'

/** linux/drivers/mtd/mtdsuper.c get_tree_mtd() */
const FLASH = /^mtd(\d|:)/

/**
 * Only a device is looked up as the caller. Any other source is a string to the driver, which it takes for the name of something
 * that the mounting process may have, and that is root of the host: a pool, flash memory, a share of the hypervisor, a server to
 * which it logs in with the keys and tickets of the host. And some file systems show the host itself.
 *
 * @throws {MountRefused} for such a type or source @throws {SyscallError} for a type that there is not
 */
export function mustBeOfDevice({ type, source }: { readonly type: string; readonly source: Source }): void {
  if (type === HUGETLBFS) return
  // The first who asks for a module gets it loaded: only then it is in the list.
  fsopen(cstring(type))[Symbol.dispose]()
  if (isWithoutDevice(type) || FLASH.test(source.text ?? '')) throw new MountRefused('type', errno('EPERM'))
}

const isWithoutDevice = (type: string): boolean =>
  readFileSync('/proc/filesystems', 'latin1')
    .split('\n')
    .includes(`nodev\t${type.split('.')[0]}`)

/** Its options show the behaviour only where it is not what the image says. */
const EXT: ReadonlySet<string> = new Set(['ext2', 'ext3', 'ext4'])

interface Usable extends Source {
  /** To be said before what the caller says. */
  readonly first?: Parameter
}

/**
 * The source as it is for the caller, in whose control groups the calling process must be: a device must open there, by the
 * very node that the caller named. Two things are seen in no other way:
 *
 * - Whether the device rules allow it: to mount what is mounted already, the kernel looks at the number alone.
 * - Whether the node is worth anything: on a file system that was mounted inside of a container (FUSE, an overlay) a node of
 *   any number can be made, and to open it is EACCES, but nothing else shows that (SB_I_NODEV).
 *
 * @see linux/fs/super.c get_tree_bdev_flags(), linux/fs/namei.c may_open_dev(), inode_permission()
 */
export function openSource({ node, ...source }: Source, type: string): Usable {
  if (!('dev' in source.kind)) return source
  if (!node) return { ...source, kind: { errno: errno('EACCES') } }
  try {
    // Opened for reading only: who watches a device is told when somebody who could write closes it.
    access(node, R_OK | (source.kind.writable ? W_OK : 0))
    using device = openat(AT_FDCWD, linkOf(node), O_RDONLY | O_NONBLOCK)
    return EXT.has(type) ? { ...source, first: onErrors(device) } : source
  } catch (error) {
    if (error instanceof SyscallError) return { ...source, kind: { errno: error.errno } }
    throw error
  }
}

/**
 * An image of ext2, ext3 or ext4 says itself what shall be done when it has an error, and that may be to panic. So it is said
 * aloud, as the image says it or else more calmly; the image may be another one by the time that the kernel reads it.
 *
 * @see linux/fs/ext4/ext4.h `struct ext4_super_block`: at 1024, 60 u16 errors: 1 continue, 2 remount-ro, 3 panic
 */
function onErrors(device: Handle): Parameter {
  const start = Buffer.alloc(2048)
  return ['errors', read(device, start) === start.length && start.readUInt16LE(1084) === 1 ? 'continue' : 'remount-ro']
}

/** In our root a source that the caller cannot use is missing; what it would have been told is known. */
export function orOwnErrno({ kind }: Source, action: () => void): void {
  try {
    action()
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || !('errno' in kind)) throw error
    throw new MountRefused('source', kind.errno)
  }
}
