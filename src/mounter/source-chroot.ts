import type { Errno, Mode, PathBytes } from '../abi/brand.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../abi/fcntl.ts'
import { S_IFBLK } from '../abi/stat.ts'
import type { SourceKind } from '../calls/mounts.ts'
import type { Fd } from '../kernel/fd.ts'
import { chrootTo, mkdirat, mknodat, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'
import { mount, unmount } from '../kernel/mount.ts'
import { restoreOrDie } from '../processes/restore.ts'

/** The mount point of this root directory, in our own mount namespace. */
const ROOT_DIR = '/run/source'
/** Mount options; the tmpfs has enough inodes for the directories of the longest path. */
const OPTIONS = 'mode=0755,size=1m,nr_inodes=4k'
const MODE = 0o755 as Mode
const NODE = (S_IFBLK | 0o600) as Mode

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
