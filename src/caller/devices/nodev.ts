import type { HostId, Mode, PathBytes } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { O_PATH } from '../../abi/fcntl.ts'
import { MOUNT_ATTR_NODEV, ST_NODEV } from '../../abi/mount.ts'
import {
  FUSE_SUPER_MAGIC,
  HUGETLBFS_MAGIC,
  makedev,
  OVERLAYFS_SUPER_MAGIC,
  RAMFS_MAGIC,
  S_IFCHR,
  TMPFS_MAGIC,
} from '../../abi/stat.ts'
import type { NodeLike, NodevReason } from '../../calls/caller.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import {
  chmodAt,
  type FileSystem,
  fchownGroup,
  fstatfs,
  mknodat,
  openat,
  umask,
  uniqueMountId,
  unlinkat,
} from '../../kernel/files.ts'
import { cloneFile, detachedTmpfs, mountSetattr } from '../../kernel/mount.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'

const NAME = Uint8Array.of(0x6e, 0) as PathBytes
const NO_UMASK = 0 as Mode
/** Every user may create files, since the thread creates them as the caller; no other process can reach this tmpfs. */
const OPTIONS = [
  ['mode', '1777'],
  ['size', '64k'],
] as const

interface Mounting {
  /** Returns a detached copy of a mount, whose attributes nobody can change any more. */
  readonly lock: (mount: Fd) => Fd
  readonly attach: (copy: Fd) => void
}

const SET_IDS = 0o6000

/** Makes device nodes on a detached tmpfs, one per thread. Each node is created, cloned as a mount, and unlinked. */
export class DeviceNodes {
  #tmpfs: Fd | undefined

  /**
   * Makes a device node that belongs to the caller which the thread has entered, and passes a detached mount of it to
   * `attach`; the node lives as long as this mount. Its name is removed last, since an unlinked file cannot be
   * attached.
   */
  use(identity: ThreadIdentity, { mode, dev, gid, opens }: NodeLike, { lock, attach }: Mounting): void {
    identity.with(steps.makeMount)
    this.#tmpfs ??= detachedTmpfs(OPTIONS)
    const tmpfs = this.#tmpfs
    identity.with(steps.makeOwnNode)
    umask(NO_UMASK)
    mknodat(tmpfs, NAME, mode, dev)
    try {
      fchownGroup(tmpfs, NAME, gid)
      // chown(2) takes these bits off, whoever the group is.
      if ((mode & SET_IDS) !== 0) chmodAt(tmpfs, NAME, (mode & 0o7777) as Mode)
      identity.with(steps.makeMount)
      using copy = copyOf(tmpfs)
      if (!opens) mountSetattr(copy, { set: MOUNT_ATTR_NODEV })
      using mount = opens ? copy : lock(copy)
      attach(mount)
    } finally {
      unlinkat(tmpfs, NAME)
    }
  }
}

/** @throws {ContinueError} before 6.15, which copies no mount that is attached nowhere */
function copyOf(tmpfs: Fd): Fd {
  try {
    return cloneFile(tmpfs, NAME)
  } catch (error) {
    throw isErrno(error, 'EINVAL') ? new ContinueError('nodesNotShown') : error
  }
}

/** Magic numbers (linux/magic.h) of file systems that a container can mount by itself and in which mknod(2) works. */
const MEMORY: ReadonlySet<number> = new Set([TMPFS_MAGIC, RAMFS_MAGIC])
const MOUNTABLE_INSIDE: ReadonlySet<number> = new Set([...MEMORY, OVERLAYFS_SUPER_MAGIC, FUSE_SUPER_MAGIC])
/** Answers that come after the mapping of ids was looked at, or from it; EEXIST comes before, and EACCES may. */
const CONCLUSIVE: ReadonlySet<number> = new Set([errnos.EOVERFLOW, errnos.EPERM, errnos.EACCES])
/**
 * In these the kernel keeps files in memory that it cannot take back, or may: the upper layer of an overlay may be a
 * tmpfs.
 */
const PINNED: ReadonlySet<number> = new Set([...MEMORY, HUGETLBFS_MAGIC, OVERLAYFS_SUPER_MAGIC])
const MOUNTS_KNOWN = 1024
const DEV_NULL = makedev(1, 3)
const HERE = Uint8Array.of(0x2e, 0)
/** A name that a directory does not have as a rule: nothing is told of a name that is there. */
const ABSENT = Buffer.from('.intercede-asks\0') as Uint8Array as PathBytes

export const isPinned = (file: Handle): boolean => PINNED.has(fstatfs(file).type)

interface DirEntry {
  readonly dir: Handle
  readonly name: PathBytes
}

/** The identity of the serving thread, which has entered the caller. */
export interface CallerIdentity {
  readonly identity: ThreadIdentity
  readonly fsuid: HostId
  /**
   * Tells whether the directory's file system certainly is the host's. This reads the list of all mounts of the
   * caller.
   */
  readonly isOfHost: () => boolean
  /** Tells whether the runtime had the directory's file system mounted nodev. This may read the same list. */
  readonly isNodevOfRuntime: () => boolean | undefined
}

/** Tells where a device node could be opened. There is one instance per thread. */
export class NodevProbe {
  /** By mount id: whether the file system was mounted inside a container, which never changes. */
  readonly #mounts = new Map<bigint, boolean>()
  /** By mount id: whether a container's runtime had its file system mounted nodev, which never changes either. */
  readonly #ofRuntime = new Map<bigint, boolean>()

  /** Returns why a device node could not be opened in a directory; undefined if it could. */
  look(entry: DirEntry, caller: CallerIdentity): NodevReason | undefined {
    const { type, flags } = fstatfs(entry.dir)
    const isInside = MOUNTABLE_INSIDE.has(type) && this.#madeInside(entry, caller)
    return this.#barred(entry, caller, { type, flags, isInside })
  }

  /** Tells whether a directory's file system was mounted inside the container. */
  isInside(dir: Handle, caller: CallerIdentity): boolean {
    return MOUNTABLE_INSIDE.has(fstatfs(dir).type) && this.#madeInside({ dir, name: ABSENT }, caller)
  }

  #barred(
    { dir }: DirEntry,
    caller: CallerIdentity,
    { type, flags, isInside }: FileSystem & { readonly isInside: boolean },
  ): NodevReason | undefined {
    // An overlay makes nodes with the rights of its mounter, and FUSE lets nobody of the host in.
    if (isInside && !MEMORY.has(type)) return { why: 'containerSuperblock', node: 'none' }
    if ((flags & ST_NODEV) === 0) return isInside ? { why: 'containerSuperblock', node: 'covered' } : undefined
    // The root file system of a podman container is an overlay of the host, by default mounted nodev.
    return { why: 'nodevMount', node: this.#isNodevOfRuntime(dir, caller) ? 'covered' : 'plain' }
  }

  #isNodevOfRuntime(dir: Handle, { isNodevOfRuntime }: CallerIdentity): boolean {
    const mount = uniqueMountId(dir)
    const known = mount === undefined ? undefined : this.#ofRuntime.get(mount)
    if (known !== undefined) return known
    const found = isNodevOfRuntime()
    // A caller whose mounts lack it cannot tell, and answers for no other one.
    if (mount !== undefined && found !== undefined) remember(this.#ofRuntime, mount, found)
    return found === true
  }

  /** Tells whether the file system was mounted in the container's own user namespace. */
  #madeInside(entry: DirEntry, caller: CallerIdentity): boolean {
    const mount = uniqueMountId(entry.dir)
    const known = mount === undefined ? undefined : this.#mounts.get(mount)
    if (known !== undefined) return known
    const { errno, searched } = tryAsHostRoot(entry, caller)
    const inside = (errno === errnos.EOVERFLOW || !searched) && !caller.isOfHost()
    if (mount !== undefined && searched && CONCLUSIVE.has(errno)) remember(this.#mounts, mount, inside)
    return inside
  }
}

function remember(mounts: Map<bigint, boolean>, mount: bigint, found: boolean): void {
  if (mounts.size >= MOUNTS_KNOWN) mounts.clear()
  mounts.set(mount, found)
}

/** The errno of creating a file as the host's root, and whether that user may search the directory. */
interface Tried {
  readonly errno: number
  readonly searched: boolean
}

/**
 * Tries to create a device node as the host's root but without CAP_MKNOD, so that it cannot succeed. Nothing tells
 * directly in which user namespace a file system was mounted (SB_I_NODEV does not show in statfs(2)), but a file
 * system of the container does not map the host's root: creating a file as that user fails with EOVERFLOW before
 * every other permission check except the search of the directory. The directory's mode never forbids this search to
 * CAP_DAC_READ_SEARCH, but an idmapped mount that does not map its owner or group may. An idmapped mount of the host
 * need not map root either.
 *
 * @see linux/fs/namei.c may_create(), fsuidgid_has_mapping(), may_lookup(); linux/kernel/capability.c
 *   privileged_wrt_inode_uidgid()
 */
function tryAsHostRoot({ dir, name }: DirEntry, { identity, fsuid }: CallerIdentity): Tried {
  return identity.asHostRoot(fsuid, () => {
    const errno = errnoOf(() => mknodat(dir, name, S_IFCHR as Mode, DEV_NULL))
    if (errno === 0) throw new Error('Cannot go on: a node was made without CAP_MKNOD')
    return { errno, searched: errno !== errnos.EACCES || maySearch(dir) }
  })
}

const maySearch = (dir: Handle): boolean => errnoOf(() => openat(dir.raw, HERE, O_PATH)[Symbol.dispose]()) === 0

function errnoOf(action: () => void): number {
  try {
    action()
    return 0
  } catch (error) {
    if (error instanceof SyscallError) return error.errno
    throw error
  }
}
