import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { AT_FDCWD, O_DIRECTORY, O_PATH, RESOLVE_IN_ROOT } from '../../abi/fcntl.ts'
import { MS_PRIVATE } from '../../abi/mount.ts'
import { orUndefined } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { openat, openat2 } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { copyTree, mountSetattr, moveMount, openTree } from '../../kernel/mount.ts'

/**
 * The directory in which `run` builds, on a tmpfs of a private mount namespace. On the host it stays empty, and all
 * mounts vanish with the processes.
 */
export const BASE = '/run/intercede/run'

export const layout = {
  /** The container's root with all mounts, except those that only the container itself can make. */
  root: `${BASE}/root`,
  /** The lower, upper and work directories of the overlays, numbered. */
  layers: `${BASE}/layers`,
  /** New directories that belong to the container's root. */
  fresh: `${BASE}/fresh`,
  /** The mount of cgroup v1's memory controller, if the machine uses it. */
  memory: `${BASE}/memory`,
  bundle: `${BASE}/bundle`,
  state: `${BASE}/state`,
  log: `${BASE}/runtime.log`,
  console: `${BASE}/console.sock`,
  agent: `${BASE}/agent.sock`,
} as const

export const CGROUP_ROOT = '/sys/fs/cgroup'

export const openDirectory = (path: string): Fd => openat(AT_FDCWD, cstring(path), O_PATH | O_DIRECTORY)

/**
 * Opens the directory `path` of the tree below `root`, and makes it and its parents if they are missing. A symbolic
 * link is followed as the container would follow it, never out of the tree.
 */
export function inside(root: Handle, path: string): Fd {
  const open = (): Fd => openat2(root.raw, cstring(path), O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT)
  const there = path === '/' ? open() : orUndefined(['ENOENT'], open)
  if (there) return there
  using parent = inside(root, dirname(path))
  mkdirSync(`/proc/self/fd/${parent.raw}/${basename(path)}`, { mode: 0o755 })
  return open()
}

/** Opens the file `path` of the tree below `root` as `inside` does, and makes an empty one if it is missing. */
export function insideFile(root: Handle, path: string): Fd {
  const open = (): Fd => openat2(root.raw, cstring(path), O_PATH, RESOLVE_IN_ROOT)
  const there = orUndefined(['ENOENT'], open)
  if (there) return there
  using parent = inside(root, dirname(path))
  // O_EXCL follows no symbolic link, which could lead out of the tree.
  writeFileSync(`/proc/self/fd/${parent.raw}/${basename(path)}`, '', { flag: 'wx', mode: 0o644 })
  return open()
}

interface Graft {
  /** The attributes to set, MOUNT_ATTR_*. */
  readonly set?: bigint
  readonly userns?: Handle | undefined
}

/**
 * Mounts a copy of the directory or file `source` on `target`, with its attributes in force before it is visible. The
 * copy is private: the container does not get what the host mounts in that directory later.
 */
export function graft(source: string | Handle, target: Handle, { set = 0n, userns }: Graft = {}): void {
  using tree = typeof source === 'string' ? openTree(source) : copyTree(source, false)
  mountSetattr(tree, { set, propagation: MS_PRIVATE, ...(userns && { userns }) })
  moveMount(tree, target)
}
