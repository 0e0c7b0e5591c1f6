import { chmodSync, chownSync, fstatSync, lstatSync, mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { O_DIRECTORY, O_PATH, RESOLVE_IN_ROOT } from '../../abi/fcntl.ts'
import { S_IXOTH } from '../../abi/stat.ts'
import { orUndefined } from '../../kernel/error.ts'
import { openat2 } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { cstring } from '../../kernel/libc.ts'
import { ID_COUNT } from '../flags.ts'
import type { IdRange } from './ids-record.ts'
import { layout } from './layout.ts'
import { graft, inside } from './tree.ts'

/** A directory that is empty at the start and belongs to the container's root. */
export interface Fresh {
  readonly path: string
  readonly mode: number
}

/**
 * /dev, which every root gets. It is on a tmpfs that the host mounted: the kernel refuses to open device nodes on a
 * file system that the container's user namespace mounts, as runtimes do.
 */
export const DEV: readonly Fresh[] = [{ path: '/dev', mode: 0o755 }]

/** Directories of the default root in which programs write. */
export const WRITABLE: readonly Fresh[] = [
  { path: '/root', mode: 0o700 },
  { path: '/tmp', mode: 0o1777 },
  { path: '/var/tmp', mode: 0o1777 },
  { path: '/run', mode: 0o755 },
]

const stored = (path: string): string => layout.fresh + path

export function makeOwned(path: string, mode: number, { uid, gid }: IdRange): void {
  mkdirSync(path, { recursive: true })
  chownSync(path, uid, gid)
  chmodSync(path, mode)
}

const isLink = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false

/** Mounts the directories into the tree, except where the tree has a symbolic link, such as /var/tmp to /tmp. */
export function placeFresh(root: Handle, directories: readonly Fresh[], owner: IdRange): void {
  for (const { path, mode } of directories) {
    if (isLink(layout.root + path)) continue
    makeOwned(stored(path), mode, owner)
    using target = inside(root, path)
    graft(stored(path), target)
  }
}

/** Returns the directories above an absolute path, the outer ones first, without the root. */
const above = (path: string): readonly string[] =>
  [...resolve(path).matchAll(/(?!^)\//g)].map(({ index }) => resolve(path).slice(0, index))

function canSearch({ uid: first }: IdRange, directory: Handle): boolean {
  const { uid, mode } = fstatSync(directory.raw)
  return (uid >= first && uid < first + ID_COUNT) || (mode & S_IXOTH) !== 0
}

/**
 * Covers a directory on the way to `target` that the container's root cannot search, such as the closed directory
 * around a tree, with an empty directory of its own. It could see nothing there anyway.
 */
export function clearWay(root: Handle, target: string, owner: IdRange): void {
  for (const path of above(target)) {
    using directory = orUndefined(['ENOENT', 'ENOTDIR', 'ELOOP'], () =>
      openat2(root.raw, cstring(path), O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT),
    )
    if (directory === undefined || canSearch(owner, directory)) continue
    makeOwned(stored(path), 0o755, owner)
    graft(stored(path), directory)
  }
}

/**
 * Makes the directories of POSIX shared memory and of system tools' locks. Precondition: `placeFresh` has been
 * called.
 */
export function fillFresh(owner: IdRange, hasRun: boolean): void {
  makeOwned(stored('/dev/shm'), 0o1777, owner)
  if (hasRun) makeOwned(stored('/run/lock'), 0o1777, owner)
}
