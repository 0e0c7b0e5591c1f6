import { fstatSync, type Stats } from 'node:fs'
import { AT_FDCWD, O_PATH, RESOLVE_NO_SYMLINKS } from '../../abi/fcntl.ts'
import { MS_PRIVATE } from '../../abi/mount.ts'
import { orUndefined } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { openat, openat2 } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { copyTree, mountSetattr, moveMount } from '../../kernel/mount.ts'
import type { Mount } from '../../kernel/procfs/mountinfo.ts'

/**
 * A directory or file of the host that the container gets. It is opened once, so that what is checked is what is
 * mounted, whoever changes the path meanwhile.
 */
export class HostTree implements Handle {
  readonly path: string
  /** Whether what is mounted below it belongs to it. */
  readonly recursive: boolean
  /** Whether no symbolic link is on the path: the owner of a link chooses where it leads. */
  readonly isStraight: boolean
  #file: Fd

  /** @throws {SyscallError} ENOENT, ENOTDIR, ELOOP if there is nothing at the path */
  constructor(path: string, recursive: boolean) {
    this.path = path
    this.recursive = recursive
    const straight = orUndefined(['ELOOP'], () => openat2(AT_FDCWD, cstring(path), O_PATH, RESOLVE_NO_SYMLINKS))
    this.isStraight = straight !== undefined
    this.#file = straight ?? openat(AT_FDCWD, cstring(path), O_PATH)
  }

  get raw(): number {
    return this.#file.raw
  }

  stat(): Stats {
    return fstatSync(this.raw)
  }

  /**
   * Becomes a detached copy of the mount, which is private: the container does not get what the host mounts there
   * later. Precondition: the thread is in the mount namespace in which the tree was opened.
   */
  detach(): void {
    using file = this.#file
    this.#file = copyTree(file, this.recursive)
    mountSetattr(this, { propagation: MS_PRIVATE })
  }

  /**
   * Mounts the copy with its attributes in force before it is visible, and closes it. Precondition: `detach` has been
   * called.
   *
   * @param set MOUNT_ATTR_*
   * @param userns for an idmapped mount, through which our own ids can make nothing
   */
  mountOn(target: Handle, { set = 0n, userns }: { readonly set?: bigint; readonly userns?: Handle | undefined }): void {
    mountSetattr(this, { set, ...(userns && { userns }) })
    moveMount(this, target)
    this[Symbol.dispose]()
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]()
  }
}

/** Opens what is at `path`; returns undefined if there is nothing. */
export const openHostTree = (path: string, recursive: boolean): HostTree | undefined =>
  orUndefined(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'], () => new HostTree(path, recursive))

const contains = (outer: string, inner: string): boolean => inner.startsWith(outer === '/' ? '/' : `${outer}/`)

/**
 * Tells whether a mount is hidden: by a mount on top of it, by a sibling nearer to the root, or since its parent is
 * hidden.
 */
function isCovered(mount: Mount, all: readonly Mount[]): boolean {
  const above = all.find(({ id }) => id === mount.parent && id !== mount.id)
  return (
    all.some(({ parent, point, id }) => parent === mount.id && point === mount.point && id !== mount.id) ||
    all.some(({ parent, point, id }) => parent === mount.parent && id !== mount.id && contains(point, mount.point)) ||
    (above !== undefined && above.point !== mount.point && isCovered(above, all))
  )
}

/** Pseudo file systems of the kernel, of which the container gets new instances or none. */
const PSEUDO = new Set(
  `autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc
  pstore ramfs rpc_pipefs securityfs selinuxfs sysfs tracefs`.split(/\s+/),
)

/** File systems that a server or a program implements: an overlay on them could hang for ever. */
export const REMOTE = /^(fuse(\..*)?|fuseblk|nfs\d?|cifs|smb3|9p|ceph|afs|glusterfs|lustre|ocfs2|gfs2|virtiofs)$/

/** Paths below which the container has directories of its own. */
const REPLACED = ['/proc', '/sys', '/dev', '/run', '/root', '/tmp', '/var/tmp']

/** Returns the mounts with files of the host: always the root, which comes first, and parents before children. */
export function hostFileSystems(all: readonly Mount[]): Mount[] {
  const isWanted = ({ point, type }: Mount): boolean =>
    point === '/' ||
    (!PSEUDO.has(type) && !REMOTE.test(type) && !REPLACED.some((path) => path === point || contains(path, point)))
  return all
    .filter((mount) => isWanted(mount) && !isCovered(mount, all))
    .toSorted((a, b) => a.point.length - b.point.length)
}
