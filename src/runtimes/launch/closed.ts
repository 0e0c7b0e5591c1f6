import { fstatSync, readFileSync, readlinkSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { AT_FDCWD, O_DIRECTORY, O_PATH, RESOLVE_NO_SYMLINKS } from '../../abi/fcntl.ts'
import { S_IXGRP, S_IXOTH } from '../../abi/stat.ts'
import { orUndefined } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { mountNumber, openat, openat2, statx } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { type Mount, parseMountinfo } from '../../kernel/procfs/mountinfo.ts'
import { shellWord } from '../../shared/texts.ts'
import { type HostTree, REMOTE } from './host-tree.ts'
import { openDirectory } from './tree.ts'

/**
 * What a container writes with the ids of the host, such as setuid programs of root, must be out of reach of every
 * user of the host but root. So each way to it must lead through a **closed** directory, which only root can search.
 * That directory must lie above what the container gets: the container owns the root of its tree, and can open it.
 */

/** Whether the path `inner` is `outer` or lies below it. */
const isWithin = (inner: string, outer: string): boolean =>
  inner === outer || inner.startsWith(outer === '/' ? '/' : `${outer}/`)

/** The mounts of our mount namespace. */
class HostMounts implements Disposable {
  readonly all = parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'))
  readonly #proc = openDirectory('/proc')

  idOf(file: Handle): number {
    return mountNumber(this.#proc, file)
  }

  /** Returns undefined for a mount that our root directory does not show. */
  of(file: Handle): Mount | undefined {
    const id = this.idOf(file)
    return this.all.find((mount) => mount.id === id)
  }

  isSame(one: Handle, other: Handle): boolean {
    const [a, b] = [statx(one.raw), statx(other.raw)]
    return a.ino === b.ino && a.dev === b.dev && this.idOf(one) === this.idOf(other)
  }

  [Symbol.dispose](): void {
    this.#proc[Symbol.dispose]()
  }
}

/**
 * Tells whether only root can search a directory. An access control list gives nobody more than the bits of the group,
 * which are its mask (linux/fs/namei.c check_acl()); what the server of a file system allows is not known.
 */
function isClosed(directory: Handle, mounts: HostMounts): boolean {
  const { uid, mode } = fstatSync(directory.raw)
  const mount = mounts.of(directory)
  return uid === 0 && (mode & (S_IXGRP | S_IXOTH)) === 0 && mount !== undefined && !REMOTE.test(mount.type)
}

const parentOf = (directory: Handle): Fd => openat(directory.raw, cstring('..'), O_PATH | O_DIRECTORY)

function isBehindClosed(directory: Handle, mounts: HostMounts): boolean {
  if (isClosed(directory, mounts)) return true
  using parent = parentOf(directory)
  return !mounts.isSame(parent, directory) && isBehindClosed(parent, mounts)
}

/** Opens the directory that `file` is in; returns undefined if it is not there any more. */
function directoryOf(path: string, file: Handle, mounts: HostMounts): Fd | undefined {
  if (fstatSync(file.raw).isDirectory()) return parentOf(file)
  const directory = openat2(AT_FDCWD, cstring(dirname(path)), O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS)
  using again = openat2(directory.raw, cstring(basename(path)), O_PATH, RESOLVE_NO_SYMLINKS)
  if (mounts.isSame(again, file)) return directory
  directory[Symbol.dispose]()
  return undefined
}

/** Tells whether a directory above `file` is closed. The root directory is above nothing, not even itself. */
function isClosedAbove(path: string, file: Handle, mounts: HostMounts): boolean {
  using directory = directoryOf(path, file, mounts)
  return directory !== undefined && !mounts.isSame(directory, file) && isBehindClosed(directory, mounts)
}

/** A directory or file of a file system, by its path there. */
interface Place {
  readonly device: string
  readonly root: string
}

/** Returns what of file systems the container gets. */
function placesOf(path: string, recursive: boolean, own: Mount, mounts: HostMounts): readonly Place[] {
  const below = recursive ? mounts.all.filter(({ point }) => point !== path && isWithin(point, path)) : []
  return [{ device: own.device, root: join(own.root, relative(own.point, path)) }, ...below]
}

/** Returns the path at which a mount shows a place, or its uppermost part; undefined if it shows nothing of it. */
function shownAt(mount: Mount, place: Place): string | undefined {
  if (mount.device !== place.device) return undefined
  if (isWithin(place.root, mount.root)) return join(mount.point, relative(mount.root, place.root))
  return isWithin(mount.root, place.root) ? mount.point : undefined
}

/** Tells whether others than root can reach `path` on this mount. What another mount hides cannot be reached. */
function isOpenAt(path: string, mount: Mount, mounts: HostMounts): boolean {
  using file = orUndefined(['ENOENT', 'ENOTDIR', 'ELOOP'], () =>
    openat2(AT_FDCWD, cstring(path), O_PATH, RESOLVE_NO_SYMLINKS),
  )
  return file !== undefined && mounts.idOf(file) === mount.id && !isClosedAbove(path, file, mounts)
}

/**
 * Returns a path in our mount namespace at which users of the host other than root can reach a tree, which was opened
 * without symbolic links, or a part of it; undefined if there is none.
 */
function openWay(tree: HostTree): string | undefined {
  using mounts = new HostMounts()
  const own = mounts.of(tree)
  if (own === undefined || !isClosedAbove(tree.path, tree, mounts)) return tree.path
  const path = readlinkSync(`/proc/self/fd/${tree.raw}`)
  for (const place of placesOf(path, tree.recursive, own, mounts)) {
    for (const mount of mounts.all) {
      const at = isWithin(mount.point, path) ? undefined : shownAt(mount, place)
      if (at !== undefined && isOpenAt(at, mount, mounts)) return at
    }
  }
  return undefined
}

/** Tells whether a directory lets only root in itself, which its container could change. */
function isClosedItself(directory: Handle): boolean {
  using mounts = new HostMounts()
  return isClosed(directory, mounts)
}

const DANGER =
  'files that the container creates there have the ids of the host, including setuid programs and devices of root'

/**
 * Tells why a tree must not be written to with the ids of the host, and the remedy; undefined if only root can reach
 * it.
 */
export function whyNotOnlyRoot(tree: HostTree): string | undefined {
  const { path, isStraight } = tree
  if (!isStraight) {
    const real = readlinkSync(`/proc/self/fd/${tree.raw}`)
    return `the path has a symbolic link, and the owner of the link chooses where it leads; use ${shellWord(real)}`
  }
  const stat = tree.stat()
  if (!stat.isDirectory() && stat.nlink > 1) {
    return `the file has ${stat.nlink} names, and users of the host may reach it by another one; use a copy`
  }
  const way = openWay(tree)
  if (way === undefined) return undefined
  if (way !== path) return `users of the host other than root can reach it at "${way}", and ${DANGER}; unmount it there`
  return stat.isDirectory() && isClosedItself(tree) ? toGoDown(path) : toMove(path)
}

const toGoDown = (path: string): string =>
  `only "${path}" itself keeps users of the host out, and the container can open it, and ${DANGER}; ` +
  `use a directory in it: mkdir ${shellWord(join(path, 'tree'))}`

function toMove(path: string): string {
  const closed = join(dirname(path), 'closed')
  return (
    `users of the host other than root can reach it, and ${DANGER}; put it into a directory of root of mode 0700: ` +
    `install -d -m 700 ${shellWord(closed)} && mv ${shellWord(path)} ${shellWord(`${closed}/`)}`
  )
}
