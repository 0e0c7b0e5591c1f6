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

/** Where it is mounted, in a mount namespace of ours. */
const PLACE = '/run/source'
/** Room for the directories of the longest path. */
const OPTIONS = 'mode=0755,size=1m,nr_inodes=4k'
const NODE = (S_IFBLK | 0o600) as Mode

/**
 * A root directory of ours in which the source has the name that the caller gave it, and in which there is nothing else: so
 * the name shows in its mount table as it wrote it, and no path that the options or the file system itself may name leads to
 * anything of the host.
 */
export class SourceChroot implements Disposable {
  readonly #root: Fd
  readonly #home: Handle

  /**
   * @param home the root directory to come back to
   * @param source the caller's string, without a NUL
   */
  constructor(home: Handle, source: Buffer, kind: SourceKind) {
    this.#home = home
    mkdirSync(PLACE, { recursive: true })
    mount('tmpfs', PLACE, 0n, OPTIONS)
    this.#root = openat(AT_FDCWD, cstring(PLACE), O_PATH | O_DIRECTORY)
    if (!('errno' in kind)) build(source, kind)
  }

  /** A directory of this root that the caller cannot have named; @returns its path at home */
  makeDirectory(name: string): string {
    mkdirSync(`${PLACE}/${name}`)
    return `${PLACE}/${name}`
  }

  /** Runs `action` with this root as the root and working directory of the thread. */
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
    restoreOrDie(() => unmount(PLACE))
  }
}

/** Makes every directory that the kernel will pass on the way to what a path without links names, and that. */
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
  // To the kernel a directory is what every other thing is here: no block device (ENOTBLK).
  if ('other' in kind) mkdirSync(pathOf([...at, last]), { recursive: true })
  else placeNode(pathOf(at), last, kind.dev)
}

/** Names are bytes. */
const pathOf = (names: readonly string[]): Buffer => Buffer.from([PLACE, ...names].join('/'), 'latin1')

function placeNode(directory: Buffer, name: string, dev: Dev): void {
  using parent = openat(AT_FDCWD, Buffer.concat([directory, Buffer.of(0)]), O_PATH | O_DIRECTORY)
  mknodat(parent, Buffer.from(`${name}\0`, 'latin1') as Uint8Array as PathBytes, NODE, dev)
}
