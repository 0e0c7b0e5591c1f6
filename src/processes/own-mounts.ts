import { readFileSync, realpathSync } from 'node:fs'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../abi/fcntl.ts'
import { MS_REC, MS_SLAVE } from '../abi/mount.ts'
import { CLONE_NEWNS } from '../abi/namespace.ts'
import { ignoring } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { changeDirectory, openat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { cstring } from '../kernel/libc.ts'
import { detachAt, mount, moveMount, openTree, pivotRoot } from '../kernel/mount.ts'
import { unshare } from '../kernel/namespaces.ts'
import { parseMountinfo } from '../kernel/procfs/mountinfo.ts'

const HERE = cstring('.')

const contains = (outer: string, inner: string): boolean => inner === outer || inner.startsWith(`${outer}/`)

/**
 * The mount points on the way to `paths`, and those below `trees`; the outer ones first, without the root.
 *
 * @param mountinfo see proc_pid_mountinfo(5)
 */
export function mountPoints(mountinfo: string, paths: readonly string[], trees: readonly string[]): readonly string[] {
  const points = parseMountinfo(mountinfo).map(({ point }) => point)
  const isKept = (point: string): boolean =>
    point !== '/' && (paths.some((path) => contains(point, path)) || trees.some((tree) => contains(tree, point)))
  return [...new Set(points)].filter(isKept).toSorted((a, b) => a.length - b.length)
}

/**
 * Moves the calling thread, and what it starts from now on, into a mount namespace that has of the host's mounts only what it
 * needs. Each other one would be a copy that keeps a file system in use which the administrator unmounts. What is kept goes
 * where the host's mount is unmounted too, if that is shared; nothing comes back to the host.
 *
 * @param paths what it needs: the mounts on the way there
 * @param trees what it needs with all that is mounted below
 */
export function enterOwnMounts(paths: readonly string[], trees: readonly string[] = []): void {
  const ways = [...paths, ...trees].flatMap(waysTo)
  const points = mountPoints(readFileSync('/proc/thread-self/mountinfo', 'utf8'), ways, trees)
  unshare(CLONE_NEWNS)
  mount('none', '/', MS_REC | MS_SLAVE)
  // Where the kernel does not let it be left, as an initramfs or the root of a user namespace, all stays as it was copied.
  ignoring(['EINVAL'], () => replaceRoot(points))
  using root = openRoot()
  changeDirectory(root)
}

/** @throws {SyscallError} EINVAL if that cannot be: then nothing has changed */
function replaceRoot(points: readonly string[]): void {
  using old = openRoot()
  using root = openTree('/')
  moveMount(root, old)
  changeDirectory(root)
  try {
    for (const point of points) copyMount(point, root)
    pivotRoot()
    changeDirectory(old)
  } finally {
    // Where the thread stands: the old root, or what could not take its place.
    detachAt(HERE)
  }
}

const openRoot = (): Fd => openat(AT_FDCWD, cstring('/'), O_PATH | O_DIRECTORY)

function waysTo(path: string): readonly string[] {
  try {
    return [path, realpathSync(path)]
  } catch {
    return [path]
  }
}

/** By absolute paths the old root is seen, until it is left. */
function copyMount(point: string, root: Handle): void {
  // Another mount may hide it, so that nothing can be needed of it.
  ignoring(['ENOENT'], () => {
    using tree = openTree(point)
    using target = openat(root.raw, cstring(`.${point}`), O_PATH)
    moveMount(tree, target)
  })
}
