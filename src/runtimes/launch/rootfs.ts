import { statSync } from 'node:fs'
import { isErrno } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/handle.ts'
import { ID_COUNT } from '../flags.ts'
import type { IdRange } from './ids-record.ts'
import { layout } from './layout.ts'
import { isReachable } from './reachable.ts'
import { graft, openDirectory } from './tree.ts'

export type Ownership = 'root' | 'mapped'

/**
 * Returns who owns the tree of `--rootfs`: the host's root, for which it is shown idmapped, or the container's root.
 *
 * @throws {Error} if it is missing, is not a directory, or belongs to another user
 */
export function inspectRootfs(path: string, { uid }: IdRange): Ownership {
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found?.isDirectory()) {
    throw new Error(
      `Cannot use --rootfs "${path}": ${found ? 'it is not a directory' : 'no such directory'}; name one that holds a root`,
    )
  }
  if (found.uid === 0) {
    refuseIfReachable(path)
    return 'root'
  }
  if (found.uid >= uid && found.uid < uid + ID_COUNT) return 'mapped'
  throw new Error(
    `Cannot use --rootfs "${path}": it belongs to user ${found.uid}, ` +
      `neither to root nor to the container (${uid} to ${uid + ID_COUNT - 1})`,
  )
}

/**
 * Refuses a tree that users of the host can reach: what the container's root writes into an idmapped tree belongs to
 * the host's root on disk, setuid programs and device nodes included.
 */
function refuseIfReachable(path: string): void {
  if (!isReachable(path)) return
  throw new Error(
    `Cannot use --rootfs "${path}": every user of the host can reach it, and what the container makes there belongs to root, ` +
      'setuid programs too: put it into a directory of mode 0700, or give the tree to the ids of the container',
  )
}

/** Mounts `path` as the container's root. What the container writes there is kept. */
export function mountRootfs(path: string, userns?: Handle): void {
  using target = openDirectory(layout.root)
  try {
    graft(path, target, { userns })
  } catch (error) {
    if (!isErrno(error, 'EINVAL') || !userns) throw error
    throw new Error(
      `Cannot use --rootfs "${path}": its file system cannot map ids: give the tree to the container's ids`,
    )
  }
}
