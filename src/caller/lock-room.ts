import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { AT_FDCWD } from '../abi/fcntl.ts'
import type { Fd } from '../kernel/fd.ts'
import { O_DIRECTORY, O_PATH, O_RDONLY, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'
import { attachTree, cloneTree, MS_SHARED, mount, unmount } from '../kernel/mount.ts'
import { CLONE_NEWNS, setns } from '../kernel/namespaces.ts'

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
export class LockRoom {
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
  static async open(home: Handle): Promise<LockRoom> {
    mkdirSync(PLACE)
    mount('tmpfs', PLACE, 0, 'mode=0755,size=64k')
    mount('none', PLACE, MS_SHARED)
    mkdirSync(DOOR)
    const args = ['--user', '--map-root-user', '--mount', '--propagation', 'unchanged', 'sh', '-c', WAIT]
    const child = spawn('unshare', args, { stdio: ['pipe', 'pipe', 'ignore'], cwd: '/' })
    try {
      await firstWord(child)
      // The namespace lives as long as this handle: the process has done its part.
      const room = openat(AT_FDCWD, cstring(`/proc/${child.pid}/ns/mnt`), O_RDONLY)
      return new LockRoom(room, home)
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
      attachTree(tree, door)
    }
    try {
      const free = cloneTree(DOOR)
      return { locked: this.#inRoom(() => cloneTree(DOOR)), free }
    } finally {
      unmount(DOOR)
    }
  }

  #inRoom<T>(action: () => T): T {
    setns(this.#room, CLONE_NEWNS)
    try {
      return action()
    } finally {
      setns(this.#home, CLONE_NEWNS)
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
