import { lstatSync } from 'node:fs'
import { isErrno } from '../../kernel/error.ts'
import type { Handle } from '../../kernel/handle.ts'
import { ID_COUNT } from '../flags.ts'
import { shellWord } from '../shell-word.ts'
import { DEV } from './fresh.ts'
import { type HostTree, openHostTree } from './host-tree.ts'
import type { IdRange } from './ids-record.ts'
import { layout } from './layout.ts'
import { whyNotOnlyRoot } from './only-root.ts'
import { inside, openDirectory } from './tree.ts'

/** The tree of `--rootfs`. */
export interface Rootfs {
  readonly tree: HostTree
  /** Whether it belongs to the host's root, for which it is shown idmapped, or to the container's root. */
  readonly isRoots: boolean
}

const cannot = (path: string, why: string): Error => new Error(`Cannot use --rootfs "${path}": ${why}`)

/**
 * Opens the tree of `--rootfs`.
 *
 * @throws {Error} if it is missing, is no directory, belongs to another user, or others than root can reach what the
 *   container would make there with the ids of the host
 */
export function openRootfs(path: string, { uid }: IdRange): Rootfs {
  const tree = openHostTree(path, false)
  const found = tree?.stat()
  if (tree === undefined || !found?.isDirectory()) {
    throw cannot(path, `${found ? 'it is not a directory' : 'no such directory'}; name one that holds a root`)
  }
  if (found.uid === 0) refuseIfOpen(tree)
  else if (found.uid < uid || found.uid >= uid + ID_COUNT) {
    throw cannot(
      path,
      `it belongs to user ${found.uid}, neither to root nor to the container (${uid} to ${uid + ID_COUNT - 1}); ` +
        `chown -R ${uid}:${uid} ${shellWord(path)}`,
    )
  }
  refuseOddDev(tree)
  return { tree, isRoots: found.uid === 0 }
}

function refuseIfOpen(tree: HostTree): void {
  const why = whyNotOnlyRoot(tree)
  if (why !== undefined) throw cannot(tree.path, `${why}, or give the tree to the ids of the container`)
}

/** Refuses a tree whose /dev is there and no directory: the container's own cannot be mounted on it. */
function refuseOddDev(tree: HostTree): void {
  for (const { path } of DEV) {
    const found = lstatSync(`/proc/self/fd/${tree.raw}${path}`, { throwIfNoEntry: false })
    if (found === undefined || found.isDirectory()) continue
    const where = `${tree.path === '/' ? '' : tree.path}${path}`
    throw cannot(
      tree.path,
      `its ${path} is ${found.isSymbolicLink() ? 'a symbolic link' : 'no directory'}, on which the container's own cannot be mounted; ` +
        `rm ${shellWord(where)}`,
    )
  }
}

/**
 * Makes the directories in the tree itself on which the container's own are mounted: an idmapped mount does not map
 * our own ids, so we can make nothing through it.
 */
export function makeMountPoints({ tree }: Rootfs): void {
  for (const { path } of DEV) inside(tree, path)[Symbol.dispose]()
}

/** Mounts the tree as the container's root. What the container writes there is kept. */
export function mountRootfs({ tree }: Rootfs, userns?: Handle): void {
  using target = openDirectory(layout.root)
  try {
    tree.mountOn(target, { userns })
  } catch (error) {
    if (!isErrno(error, 'EINVAL') || !userns) throw error
    throw cannot(tree.path, "its file system cannot map ids; give the tree to the container's ids")
  }
}
