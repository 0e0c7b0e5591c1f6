import type { Mode, PathBytes } from '../../abi/brand.ts'
import { MOUNT_ATTR_NODEV } from '../../abi/mount.ts'
import { S_IFCHR } from '../../abi/stat.ts'
import type { NodeLike } from '../../calls/caller.ts'
import { steps } from '../../calls/steps.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { isErrno } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { fchownGroup, mknodat, umask, unlinkat } from '../../kernel/files.ts'
import { detachedTmpfs } from '../../kernel/fs-context.ts'
import { cloneFile } from '../../kernel/mount.ts'
import { mountSetattr } from '../../kernel/mount-attr.ts'
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
    mknodat(tmpfs, NAME, ((mode & 0o7777) | S_IFCHR) as Mode, dev)
    try {
      fchownGroup(tmpfs, NAME, gid)
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
