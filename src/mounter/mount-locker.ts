import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { MOUNT_ATTR_NODEV, MS_SHARED } from '../abi/mount.ts'
import { CLONE_NEWNS } from '../abi/namespace.ts'
import { isErrno } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { openat, statx } from '../kernel/files.ts'
import { detachedTmpfs } from '../kernel/fs-context.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'
import { mount, moveMount, openTree, unmount } from '../kernel/mount.ts'
import { mountSetattr } from '../kernel/mount-attr.ts'
import { setns } from '../kernel/namespaces.ts'
import { restoreOrDie } from '../processes/restore.ts'

const PLACE = '/run/room'
const DOOR = `${PLACE}/door`
/** Says when it stands in its namespaces, and ends with us. */
const WAIT = 'echo in; read -r _'

/**
 * Where a mount is locked: a mount namespace that belongs to another user namespace. The kernel locks the attributes of
 * what arrives there from a namespace of a more privileged one, and a copy that is taken there keeps the locks: no
 * remount, no bind copy and no child user namespace takes nodev away again.
 *
 * @see linux/fs/pnode.c propagate_mnt(), linux/fs/namespace.c lock_mnt_tree(), can_change_locked_flags()
 */
export class MountLocker {
  /** What it starts to be made. */
  static readonly programs: readonly string[] = ['unshare', 'sh']
  readonly #room: Handle
  readonly #home: Handle

  private constructor(room: Handle, home: Handle) {
    this.#room = room
    this.#home = home
  }

  /**
   * Makes one below `/run` of the calling process, which must be in a mount namespace of its own.
   *
   * @param home that mount namespace
   */
  static async open(home: Handle): Promise<MountLocker> {
    mkdirSync(PLACE)
    mount('tmpfs', PLACE, 0n, 'mode=0755,size=64k')
    mount('none', PLACE, MS_SHARED)
    mkdirSync(DOOR)
    // It has no ids, which it would need a capability for; and no /dev/null where there is no /dev.
    const args = ['--user', '--mount', '--propagation', 'unchanged', 'sh', '-c', WAIT]
    const child = spawn('unshare', args, { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/' })
    try {
      await firstWord(child)
      // The namespace lives as long as this handle: the process has done its part.
      const room = openat(AT_FDCWD, cstring(`/proc/${child.pid}/ns/mnt`), O_RDONLY)
      const made = new MountLocker(room, home)
      made.#prove()
      return made
    } finally {
      child.kill('SIGKILL')
    }
  }

  /**
   * @param tree a detached mount with the attributes that are to stay; it is used up
   * @returns a detached copy whose attributes are locked, and one as it was
   */
  lock(tree: Handle): { readonly locked: Fd; readonly free: Fd } {
    {
      using door = openat(AT_FDCWD, cstring(DOOR), O_PATH | O_DIRECTORY)
      moveMount(tree, door)
    }
    try {
      const free = openTree(DOOR)
      const locked = this.#inRoom(() => openTree(DOOR))
      // Where nothing had arrived it would be a copy of the door itself.
      if (statx(locked.raw).dev !== statx(free.raw).dev) throw new Error('Cannot lock a mount: it did not arrive')
      return { locked, free }
    } finally {
      restoreOrDie(() => unmount(DOOR))
    }
  }

  /** Locks a mount and tries to change it, as somebody who may do everything. @throws {Error} if this kernel locks nothing */
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
    setns(this.#room, CLONE_NEWNS)
    try {
      return action()
    } finally {
      restoreOrDie(() => setns(this.#home, CLONE_NEWNS))
    }
  }
}

function firstWord(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (status) => reject(new Error(`Cannot make a lock room: unshare ended with ${status}`)))
    child.stdout?.once('data', () => resolve())
  })
}
