import { chmodSync, chownSync, lstatSync, mkdirSync } from 'node:fs'
import type { Handle } from '../../kernel/handle.ts'
import type { IdRange } from './ids.ts'
import { layout } from './layout.ts'
import { graft, inside } from './tree.ts'

/** A directory that begins empty and belongs to the container's root. */
export interface Fresh {
  readonly path: string
  readonly mode: number
}

/**
 * /dev, whatever the root is. It lies on a tmpfs that the host mounted: a node made there can be opened, in one that the
 * container's user namespace mounts (as runtimes do) the kernel refuses it.
 */
export const DEV: readonly Fresh[] = [{ path: '/dev', mode: 0o755 }]

/** Where a program of the default root writes. */
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

/** Puts the directories into the tree. One that is a symbolic link there, such as /var/tmp to /tmp, is left so. */
export function placeFresh(root: Handle, directories: readonly Fresh[], owner: IdRange): void {
  for (const { path, mode } of directories) {
    if (isLink(layout.root + path)) continue
    makeOwned(stored(path), mode, owner)
    using target = inside(root, path)
    graft(stored(path), target)
  }
}

/** POSIX shared memory, and locks of system tools. Called after `placeFresh`, in what it placed. */
export function fillFresh(owner: IdRange, hasRun: boolean): void {
  makeOwned(stored('/dev/shm'), 0o1777, owner)
  if (hasRun) makeOwned(stored('/run/lock'), 0o1777, owner)
}
