import type { HostId, Mode, PathBytes } from '../../abi/brand.ts'
import { makedev } from '../../abi/dev.ts'
import { errnos } from '../../abi/errno.ts'
import { O_PATH } from '../../abi/fcntl.ts'
import { FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, RAMFS_MAGIC, TMPFS_MAGIC } from '../../abi/magic.ts'
import { ST_NODEV } from '../../abi/mount.ts'
import { S_IFCHR } from '../../abi/stat.ts'
import type { NodevReason } from '../../calls/caller.ts'
import { SyscallError } from '../../kernel/error.ts'
import { fstatfs, mknodat, mountId, openat } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'

/** File systems that a container can mount by itself and in which mknod(2) works. */
const MEMORY: ReadonlySet<number> = new Set([TMPFS_MAGIC, RAMFS_MAGIC])
const MOUNTABLE_INSIDE: ReadonlySet<number> = new Set([...MEMORY, OVERLAYFS_SUPER_MAGIC, FUSE_SUPER_MAGIC])
/** Answers that come after the mapping of ids was looked at, or from it; EEXIST comes before, and EACCES may. */
const CONCLUSIVE: ReadonlySet<number> = new Set([errnos.EOVERFLOW, errnos.EPERM, errnos.EACCES])
const MOUNTS_KNOWN = 1024
const DEV_NULL = makedev(1, 3)
const HERE = Uint8Array.of(0x2e, 0)

interface Place {
  readonly dir: Handle
  readonly name: PathBytes
}

/** The file system user of the caller, as whom the thread stands inside. */
interface As {
  readonly identity: ThreadIdentity
  readonly fsuid: HostId
  /** Is the file system of the directory sure to be one of the host? It takes a look at all mounts of the caller. */
  readonly isOfHost: () => boolean
}

/** Knows where a device node can be opened. One for each thread. */
export class NodevProbe {
  /** By mount: whether its file system was mounted inside a container. That never changes. */
  readonly #mounts = new Map<bigint, boolean>()

  /** @returns undefined where a node can be opened, else why not; and whether a file of FUSE is asked for */
  look(place: Place, as: As): { readonly barred: NodevReason | undefined; readonly onFuse: boolean } {
    const { type, flags } = fstatfs(place.dir)
    return { barred: this.#barred(type, flags, () => this.#madeInside(place, as)), onFuse: type === FUSE_SUPER_MAGIC }
  }

  #barred(type: number, flags: number, inside: () => boolean): NodevReason | undefined {
    if ((flags & ST_NODEV) !== 0) {
      // The root of a container of podman is such a one: an overlay of the host, by default with nodev.
      const mountable = MEMORY.has(type) || !MOUNTABLE_INSIDE.has(type) || (type === OVERLAYFS_SUPER_MAGIC && !inside())
      return { why: 'nodevMount', mountable }
    }
    if (!MOUNTABLE_INSIDE.has(type) || !inside()) return undefined
    return { why: 'containerSuperblock', mountable: MEMORY.has(type) }
  }

  /** Was the file system mounted in the container's own user namespace? */
  #madeInside(place: Place, as: As): boolean {
    const mount = mountId(place.dir)
    const known = mount === undefined ? undefined : this.#mounts.get(mount)
    if (known !== undefined) return known
    const { errno, searched } = tryAsHostRoot(place, as)
    const inside = (errno === errnos.EOVERFLOW || !searched) && !as.isOfHost()
    if (mount !== undefined && searched && CONCLUSIVE.has(errno)) {
      if (this.#mounts.size >= MOUNTS_KNOWN) this.#mounts.clear()
      this.#mounts.set(mount, inside)
    }
    return inside
  }
}

/** What creating something as the host's root gives, and whether it may search the directory. */
interface Tried {
  readonly errno: number
  readonly searched: boolean
}

/**
 * Nothing tells directly who mounted a file system (SB_I_NODEV does not show in statfs). But one of the container maps no
 * id of the host's root: creating anything as that user gives EOVERFLOW before all other checks of permission but the one
 * whether it may search the directory. Its mode alone never forbids that to CAP_DAC_READ_SEARCH, but an idmapped mount that
 * does not map its owner or group may. Without CAP_MKNOD the call cannot succeed. An idmapped mount of the host's may not
 * map root either.
 *
 * @see linux/fs/namei.c may_create(), fsuidgid_has_mapping(), may_lookup(); linux/kernel/capability.c
 *   privileged_wrt_inode_uidgid()
 */
function tryAsHostRoot({ dir, name }: Place, { identity, fsuid }: As): Tried {
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
