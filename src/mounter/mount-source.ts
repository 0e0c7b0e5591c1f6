import { readFileSync } from 'node:fs'
import type { Errno, Mode, PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_NONBLOCK, O_PATH, O_RDONLY, R_OK, W_OK } from '../abi/fcntl.ts'
import { S_IFBLK } from '../abi/stat.ts'
import { MountRefused } from '../caller/mounts/mounter-client.ts'
import type { Parameter } from '../calls/context.ts'
import { IN_MEMORY, type Source, type SourceKind } from '../calls/mounts.ts'
import { isErrno, SyscallError } from '../kernel/error.ts'
import type { Fd, Handle } from '../kernel/fd.ts'
import { access, chrootTo, linkOf, mkdirat, mknodat, openat, read } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { fsopen, mount, unmount } from '../kernel/mount.ts'
import { restoreOrDie } from '../processes/helper.ts'

/** The mount point of this root directory, in our own mount namespace. */
const ROOT_DIR = '/run/source'
/** Mount options; the tmpfs has enough inodes for the directories of the longest path. */
const OPTIONS = 'mode=0755,size=1m,nr_inodes=4k'
const MODE = 0o755 as Mode
const NODE = (S_IFBLK | 0o600) as Mode
/** The path of a source that is no device. */
const NO_DEVICE = '/no-device'

/**
 * Makes a root directory that holds nothing but the source, under the name that the caller gave it. So the caller's
 * mount table shows this name, and no path in the options or in the image leads to anything of the host.
 */
export class SourceChroot implements Disposable {
  readonly #root: Fd
  readonly #home: Handle

  /**
   * @param home the root directory to return to
   * @param source the caller's string, without a NUL
   */
  constructor(home: Handle, source: Buffer, kind: SourceKind) {
    this.#home = home
    mkdirat(AT_FDCWD, cstring(ROOT_DIR), MODE)
    mount('tmpfs', ROOT_DIR, 0n, OPTIONS)
    this.#root = openat(AT_FDCWD, cstring(ROOT_DIR), O_PATH | O_DIRECTORY)
    try {
      if (!('errno' in kind)) build(this.#root, source, kind)
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  /** Makes a directory that the caller cannot have named. @returns its path outside of this root */
  makeDirectory(name: string): string {
    mkdirat(this.#root.raw, cstring(name), MODE)
    return `${ROOT_DIR}/${name}`
  }

  /** Runs `action` with this directory as the root and working directory of the thread. */
  inside<T>(action: () => T): T {
    chrootTo(this.#root)
    try {
      return action()
    } finally {
      restoreOrDie(() => chrootTo(this.#home))
    }
  }

  [Symbol.dispose](): void {
    this.#root[Symbol.dispose]()
    restoreOrDie(() => unmount(ROOT_DIR))
  }
}

/**
 * Makes every directory on the kernel's way to the source, and the source itself. The path is walked as without
 * links. All paths are looked up from `root`: before the longest that a caller may have, its own path has no room.
 */
function build(root: Handle, source: Buffer, kind: Exclude<SourceKind, { errno: Errno }>): void {
  const names = source.toString('latin1').split('/')
  const last = names.pop()
  const at: string[] = []
  for (const name of names) {
    if (name === '..') at.pop()
    else if (name !== '' && name !== '.') {
      at.push(name)
      mkdirat(root.raw, pathOf(at), MODE)
    }
  }
  if (!last || last === '.' || last === '..') return
  const path = pathOf([...at, last])
  // The kernel treats a directory like any other object that is not a block device (ENOTBLK).
  if ('other' in kind) mkdirat(root.raw, path, MODE)
  else mknodat(root, path, NODE, kind.dev)
}

/** Joins names, which hold bytes as Latin-1. */
const pathOf = (names: readonly string[]): PathBytes =>
  Buffer.from(`${names.join('/')}\0`, 'latin1') as Uint8Array as PathBytes

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
 * Returns a source that is no device under a name of ours. The kernel writes the name into its log when it finds no
 * device: up to 4 KB that the container chose, which take 20 ms on a serial console, with interrupts disabled.
 *
 * @see linux/fs/super.c get_tree_bdev_flags()
 */
export const withoutName = (source: Usable, type: string): Usable =>
  'dev' in source.kind || IN_MEMORY.has(type) || !source.text ? source : { ...source, text: NO_DEVICE }

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
