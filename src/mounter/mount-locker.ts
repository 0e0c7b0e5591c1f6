import { mkdirSync, writeFileSync } from 'node:fs'
import { AT_FDCWD, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { MOUNT_ATTR_NODEV, MS_SHARED } from '../abi/mount.ts'
import { CLONE_NEWNS } from '../abi/process.ts'
import { fileType, S_IFDIR } from '../abi/stat.ts'
import { isErrno } from '../kernel/error.ts'
import { type Fd, type Handle, orClose, pipe } from '../kernel/fd.ts'
import { openat, read, statx } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { detachedTmpfs, mount, mountSetattr, moveMount, openTree, unmount } from '../kernel/mount.ts'
import { setns } from '../kernel/process.ts'
import { Child, ERRORS } from '../processes/child.ts'
import { restoreOrDie } from '../processes/helper.ts'
import { SEARCH_PATH } from '../processes/program-files.ts'

const SHARED_DIR = '/run/room'
/** Where the root of a file system is mounted, and where a single file. */
const DIRECTORY = `${SHARED_DIR}/door`
const FILE = `${SHARED_DIR}/hatch`
/** The shell script that reports when it is in its namespaces, and ends when this process does. */
const WAIT = 'echo in; read -r _'

/**
 * Locks the attributes of mounts, by means of a mount namespace that belongs to another user namespace (the lock
 * room). The kernel locks the attributes of a mount that propagates there from a namespace with more privileges, and
 * a copy that is taken there stays locked: no remount, no bind mount and no child user namespace can clear nodev
 * again.
 *
 * @see linux/fs/pnode.c propagate_mnt(), linux/fs/namespace.c lock_mnt_tree(), can_change_locked_flags()
 */
export class MountLocker {
  /** The programs that `open` executes. */
  static readonly programs: readonly string[] = ['unshare', 'sh']
  readonly #lockRoom: Handle
  readonly #home: Handle

  private constructor(lockRoom: Handle, home: Handle) {
    this.#lockRoom = lockRoom
    this.#home = home
  }

  /**
   * Makes a lock room below `/run` of the calling process, which must be in a mount namespace of its own.
   *
   * @param home this mount namespace
   */
  static open(home: Handle): MountLocker {
    mkdirSync(SHARED_DIR)
    mount('tmpfs', SHARED_DIR, 0n, 'mode=0755,size=64k')
    mount('none', SHARED_DIR, MS_SHARED)
    mkdirSync(DIRECTORY)
    writeFileSync(FILE, '')
    const made = new MountLocker(makeRoom(), home)
    made.#prove()
    return made
  }

  /**
   * Locks the attributes of a mount.
   *
   * @param tree a detached mount with its final attributes; it is used up
   * @returns a detached copy whose attributes are locked, and a copy that is not locked
   */
  lock(tree: Handle): { readonly locked: Fd; readonly free: Fd } {
    const path = fileType(statx(tree.raw).mode) === S_IFDIR ? DIRECTORY : FILE
    {
      using mountPoint = openat(AT_FDCWD, cstring(path), O_PATH)
      moveMount(tree, mountPoint)
    }
    try {
      const free = openTree(path)
      const locked = orClose([free], () => this.#inRoom(() => openTree(path)))
      // If nothing had propagated, this would be a copy of the empty mount point.
      return orClose([free, locked], () => {
        if (statx(locked.raw).dev !== statx(free.raw).dev) throw new Error('Cannot lock a mount: it did not arrive')
        return { locked, free }
      })
    } finally {
      restoreOrDie(() => unmount(path))
    }
  }

  /**
   * Locks a mount and tries to change it with all capabilities. @throws {Error} if this kernel does not lock
   * attributes
   */
  #prove(): void {
    using tree = detachedTmpfs([])
    mountSetattr(tree, { set: MOUNT_ATTR_NODEV })
    const { locked, free } = this.lock(tree)
    using _locked = locked
    using _free = free
    try {
      mountSetattr(locked, { clear: MOUNT_ATTR_NODEV })
    } catch (error) {
      if (isErrno(error, 'EPERM')) return
      throw error
    }
    throw new Error('Cannot lock a mount: this kernel lets its attributes be changed')
  }

  #inRoom<T>(action: () => T): T {
    setns(this.#lockRoom, CLONE_NEWNS)
    try {
      return action()
    } finally {
      restoreOrDie(() => setns(this.#home, CLONE_NEWNS))
    }
  }
}

/** @returns the mount namespace of a process that has ended: it lives as long as this handle */
function makeRoom(): Fd {
  const [input, output] = [pipe(), pipe()]
  using _written = input.write
  using told = output.read
  const child = enterRoom(input.read, output.write)
  try {
    if (read(told, new Uint8Array(1)) === 0) throw new Error('Cannot make a lock room: unshare(1) has failed')
    return openat(AT_FDCWD, cstring(`/proc/${child.pid}/ns/mnt`), O_RDONLY)
  } finally {
    child.kill('SIGKILL')
  }
}

/** Starts the process of the room. @param input closed here, as is `output` */
function enterRoom(input: Fd, output: Fd): Child {
  using reading = input
  using writing = output
  // The user namespace gets no id maps, which would take a capability.
  return new Child(['unshare', '--user', '--mount', '--propagation', 'unchanged', 'sh', '-c', WAIT], {
    fds: [reading, writing, ERRORS],
    env: { PATH: SEARCH_PATH },
  })
}
