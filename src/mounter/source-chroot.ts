import { mkdirSync } from 'node:fs'
import type { Dev, Errno, Mode, PathBytes } from '../abi/brand.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../abi/fcntl.ts'
import { S_IFBLK } from '../abi/stat.ts'
import type { SourceKind } from '../calls/mounts.ts'
import type { Fd } from '../kernel/fd.ts'
import { chrootTo, mknodat, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'
import { mount, unmount } from '../kernel/mount.ts'
import { restoreOrDie } from '../processes/restore.ts'

/** The mount point of this root directory, in our own mount namespace. */
const ROOT_DIR = '/run/source'
/** Mount options; the tmpfs has enough inodes for the directories of the longest path. */
const OPTIONS = 'mode=0755,size=1m,nr_inodes=4k'
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
    mkdirSync(ROOT_DIR, { recursive: true })
    mount('tmpfs', ROOT_DIR, 0n, OPTIONS)
    this.#root = openat(AT_FDCWD, cstring(ROOT_DIR), O_PATH | O_DIRECTORY)
    if (!('errno' in kind)) build(source, kind)
  }

  /** Makes a directory that the caller cannot have named. @returns its path outside of this root */
  makeDirectory(name: string): string {
    mkdirSync(`${ROOT_DIR}/${name}`)
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
 * links.
 */
function build(source: Buffer, kind: Exclude<SourceKind, { errno: Errno }>): void {
  const names = source.toString('latin1').split('/')
  const last = names.pop()
  const at: string[] = []
  for (const name of names) {
    if (name === '..') at.pop()
    else if (name !== '' && name !== '.') {
      at.push(name)
      mkdirSync(pathOf(at), { recursive: true })
    }
  }
  if (!last || last === '.' || last === '..') return
  // The kernel treats a directory like any other object that is not a block device (ENOTBLK).
  if ('other' in kind) mkdirSync(pathOf([...at, last]), { recursive: true })
  else placeNode(pathOf(at), last, kind.dev)
}

/** Joins names, which hold bytes as Latin-1. */
const pathOf = (names: readonly string[]): Buffer => Buffer.from([ROOT_DIR, ...names].join('/'), 'latin1')

function placeNode(directory: Buffer, name: string, dev: Dev): void {
  using parent = openat(AT_FDCWD, Buffer.concat([directory, Buffer.of(0)]), O_PATH | O_DIRECTORY)
  mknodat(parent, Buffer.from(`${name}\0`, 'latin1') as Uint8Array as PathBytes, NODE, dev)
}
