import { readFileSync, realpathSync } from 'node:fs'
import { AT_FDCWD, O_DIRECTORY, O_PATH, RESOLVE_NO_SYMLINKS } from '../abi/fcntl.ts'
import { MS_REC, MS_SLAVE } from '../abi/mount.ts'
import { CLONE_NEWNS } from '../abi/process.ts'
import { ignoring, orElse } from '../kernel/error.ts'
import type { Fd, Handle } from '../kernel/fd.ts'
import { changeDirectory, openat, openat2 } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { copyTree, detachAt, mount, moveMount, openTree, pivotRoot } from '../kernel/mount.ts'
import { unshare } from '../kernel/process.ts'
import { parseMountinfo } from '../kernel/procfs/mountinfo.ts'

const HERE = cstring('.')

const contains = (outer: string, inner: string): boolean => inner === outer || inner.startsWith(`${outer}/`)

/**
 * Returns the mount points on the way to `paths` and `trees` and those below `trees`, outer ones first, without the
 * root.
 *
 * @param mountinfo see proc_pid_mountinfo(5)
 * @param paths paths whose mounts are needed
 * @param trees paths below which all mounts are needed
 */
export function mountPoints(mountinfo: string, paths: readonly string[], trees: readonly string[]): readonly string[] {
  const points = parseMountinfo(mountinfo).map(({ point }) => point)
  const isKept = (point: string): boolean =>
    point !== '/' && (paths.some((path) => contains(point, path)) || trees.some((tree) => contains(tree, point)))
  return [...new Set(points)].filter(isKept).toSorted((a, b) => a.length - b.length)
}

/**
 * Moves the calling thread, and every process that it starts later, into a mount namespace with only the mounts of
 * the host that it needs: a copy of any other mount would keep a file system in use that the administrator unmounts.
 * A kept mount is unmounted with the host's mount if that is shared; no mount propagates to the host.
 *
 * @param paths what the thread needs: the mounts on the way there
 * @param trees what it needs with everything that is mounted below
 */
export function enterOwnMounts(paths: readonly string[], trees: readonly string[] = []): void {
  const needed = [...paths, ...trees].flatMap(withRealPath)
  const points = mountPoints(readFileSync('/proc/thread-self/mountinfo', 'utf8'), needed, trees)
  unshare(CLONE_NEWNS)
  mount('none', '/', MS_REC | MS_SLAVE)
  // The kernel refuses pivot_root(2) in an initramfs and in a user namespace's inherited root (EINVAL): all copied
  // mounts stay.
  ignoring(['EINVAL'], () => replaceRoot(points))
  using root = openRoot()
  changeDirectory(root)
}

/**
 * Replaces the root by a copy with only some mounts. @throws {SyscallError} EINVAL if that is impossible; nothing has
 * changed then
 */
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
    // The working directory is the old root, or the copy that could not replace it.
    detachAt(HERE)
  }
}

const openRoot = (): Fd => openat(AT_FDCWD, cstring('/'), O_PATH | O_DIRECTORY)

const withRealPath = (path: string): readonly string[] => orElse([path], () => [path, realpathSync(path)])

/**
 * Copies a mount to the new root. Absolute paths still lead through the old root. No mount point has a symbolic link on
 * its path, unless a user who owns a directory there has just put it there.
 */
function copyMount(point: string, root: Handle): void {
  // Another mount may hide it, so that nothing can be needed of it.
  ignoring(['ENOENT', 'ENOTDIR', 'ELOOP'], () => {
    using source = openat2(AT_FDCWD, cstring(point), O_PATH, RESOLVE_NO_SYMLINKS)
    using target = openat2(root.raw, cstring(`.${point}`), O_PATH, RESOLVE_NO_SYMLINKS)
    using tree = copyTree(source, false)
    moveMount(tree, target)
  })
}
