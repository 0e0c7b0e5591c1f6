import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, normalize, resolve } from 'node:path'
import type { Dev, Mode, PathBytes } from '../../abi/brand.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS } from '../../abi/fcntl.ts'
import {
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_RDONLY,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
} from '../../abi/mount.ts'
import { major, minor, S_IFBLK, S_IFCHR, S_IFDIR, S_IFMT, S_IXOTH } from '../../abi/stat.ts'
import { PATH_MAX } from '../../abi/system.ts'
import { isErrno, orElse, orUndefined } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { mknodat, openat, openat2 } from '../../kernel/files.ts'
import { cstring } from '../../kernel/libc.ts'
import { mount } from '../../kernel/mount.ts'
import { type Mount, parseMountinfo } from '../../kernel/procfs/mountinfo.ts'
import { shellWord } from '../../shared/texts.ts'
import { ID_COUNT } from '../flags.ts'
import { type Bind, openTarget, placeBind } from './binds.ts'
import { whyNotOnlyRoot } from './closed.ts'
import { type HostTree, hostFileSystems, openHostTree } from './host-tree.ts'
import type { IdRange } from './ids.ts'
import { placeInit } from './init.ts'
import type { DeviceRule } from './oci-config.ts'
import { graft, inside, layout, openDirectory } from './tree.ts'

/** What the root of a container is made of, as `Plan` has it. */
interface RootPlan {
  readonly ids: IdRange
  readonly rootfs: Rootfs | undefined
  readonly idmapped: boolean
  readonly binds: readonly Bind[]
  readonly devices: readonly Device[]
  readonly init: string | undefined
}

/** Builds the container's whole root at `layout.root`, in the private mount namespace. */
export async function buildRoot(plan: RootPlan): Promise<void> {
  const { idmapped, rootfs, binds, ids } = plan
  using userns = idmapped || binds.some((bind) => bind.idmapped) ? await mappedNamespace(ids) : undefined
  const rootMap = idmapped ? userns : undefined
  if (rootfs === undefined) buildHostRoot(rootMap)
  else {
    makeMountPoints(rootfs)
    for (const bind of plan.binds) openTarget(rootfs.tree, bind)[Symbol.dispose]()
    mountRootfs(rootfs, rootMap)
  }
  using root = openDirectory(layout.root)
  furnish(root, plan, userns)
}

function furnish(root: Handle, { rootfs, ids, binds, devices, init }: RootPlan, userns: Handle | undefined): void {
  const isHost = rootfs === undefined
  placeFresh(root, isHost ? [...WRITABLE, ...DEV] : DEV, ids)
  fillFresh(ids, isHost)
  for (const device of devices) placeDevice(device, ids)
  if (init !== undefined) placeInit(root, init)
  for (const bind of binds) {
    clearWay(root, bind.target, ids)
    placeBind(root, bind, userns)
  }
}

/**
 * Returns a user namespace with the container's id maps, for idmapped mounts. Node is multithreaded and cannot
 * unshare one itself, so a `cat` in a new one keeps it until it is opened; its echo tells that the namespace exists.
 */
async function mappedNamespace({ uid, gid }: IdRange): Promise<Fd> {
  const holder = spawn('unshare', ['--user', '--', 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(holder, 'exit')
  try {
    holder.stdin.write('\n')
    await Promise.race([once(holder.stdout, 'data'), ended.then(() => Promise.reject(new Error('unshare failed')))])
    writeFileSync(`/proc/${holder.pid}/uid_map`, `0 ${uid} ${ID_COUNT}`)
    writeFileSync(`/proc/${holder.pid}/gid_map`, `0 ${gid} ${ID_COUNT}`)
    return openat(AT_FDCWD, cstring(`/proc/${holder.pid}/ns/user`), O_RDONLY)
  } catch (error) {
    throw new Error(`Cannot make a user namespace: ${(error as Error).message}`)
  } finally {
    holder.kill('SIGKILL')
    await ended.catch(() => {})
  }
}

/** Mount options that are copied from a host mount to its overlay, which ignores the options of its lower mount. */
const KEPT: Readonly<Record<string, bigint>> = { nosuid: MS_NOSUID, nodev: MS_NODEV, noexec: MS_NOEXEC }

const keptFlags = ({ options }: Mount): bigint => options.reduce((flags, option) => flags | (KEPT[option] ?? 0n), 0n)

/**
 * Builds the container's root from the host's file systems, each under an overlay that is thrown away.
 *
 * @param userns if given, the lower layers are idmapped with it, so that the container's root owns all files of the
 *   host; otherwise they belong to nobody, and the kernel's own check hides files that not everybody may read
 */
function buildHostRoot(userns?: Handle): void {
  const [first, ...others] = hostFileSystems(parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')))
  {
    using source = openDirectory('/')
    using place = openDirectory(layout.root)
    overlay({ from: first!, source, place }, 0, userns)
  }
  using root = openDirectory(layout.root)
  for (const [index, from] of others.entries()) {
    using source = openStraight(AT_FDCWD, from.point)
    using place = openStraight(root.raw, `.${from.point}`)
    if (source && place) overlayOrCopy({ from, source, place }, 1 + index, userns)
  }
}

/** A mount of the host, opened, and the directory of the container's root on which it is to appear. */
interface Shown {
  readonly from: Mount
  readonly source: Handle
  readonly place: Handle
}

/**
 * Opens the directory at a mount point, on whose path is no symbolic link, unless a user who owns a directory there has
 * just put it there: it could lead to the host's own programs.
 */
const openStraight = (root: number, path: string): Fd | undefined =>
  orUndefined(['ENOENT', 'ENOTDIR', 'ELOOP'], () =>
    openat2(root, cstring(path), O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS),
  )

/**
 * Mounts an overlay, or a read-only bind of a file system that cannot be a lower layer (vfat, overlays that are too
 * deep).
 */
function overlayOrCopy(shown: Shown, index: number, userns?: Handle): void {
  try {
    overlay(shown, index, userns)
  } catch {
    graft(shown.source, shown.place, { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV })
  }
}

function overlay({ from, source, place }: Shown, index: number, userns?: Handle): void {
  const layer = `${layout.layers}/${index}`
  for (const name of ['', '/lower', '/upper', '/work']) mkdirSync(layer + name)
  {
    using lower = openDirectory(`${layer}/lower`)
    graft(source, lower, { userns })
  }
  copyOwner(`${layer}/lower`, `${layer}/upper`)
  const options = `lowerdir=${layer}/lower,upperdir=${layer}/upper,workdir=${layer}/work`
  mount('overlay', `/proc/self/fd/${place.raw}`, keptFlags(from), options)
  writeFileSync(`${layer}/point`, from.point)
}

/** What is listed of the layers at most: entries, and characters of their paths together. */
const WRITTEN_LIMITS = { entries: 100_000, characters: 16_000_000 }

/** What a container has left in the layers that are thrown away. */
export interface WrittenFiles {
  /** By path, each byte a character of Latin-1: the mode with the type, owner and group, and the device number. */
  readonly files: Readonly<Record<string, string>>
  /** False if there is more than is listed. */
  readonly isWhole: boolean
}

/**
 * Lists what is in the layers over the host's files, and in the container's own directories. Precondition: the
 * container has ended, so that nobody exchanges directories on the way.
 */
export function writtenFiles(): WrittenFiles {
  const files: Record<string, string> = {}
  // Another run may have another range of ids.
  const first = lstatSync(stored('/run')).uid
  const shown = (id: number): number => (id >= first && id < first + ID_COUNT ? id - first : id)
  let { entries, characters } = WRITTEN_LIMITS
  let isWhole = true
  const list = (directory: string, at: string): void => {
    using names = openList(directory)
    for (let entry = names.read(); entry; entry = names.read()) {
      const [path, below] = [`${directory}/${entry}`, `${at}/${entry}`]
      entries--
      characters -= below.length
      if (entries < 0 || characters < 0 || path.length >= PATH_MAX) {
        isWhole = false
        return
      }
      const { mode, uid, gid, rdev } = lstatSync(Buffer.from(path, 'latin1'))
      files[below] = `${mode.toString(8)} ${shown(uid)}:${shown(gid)} ${rdev}`
      if ((mode & S_IFMT) === S_IFDIR) list(path, below)
    }
  }
  list(layout.fresh, '')
  for (const layer of readdirSync(layout.layers).map((name) => `${layout.layers}/${name}`)) {
    // A file system that cannot be a lower layer has none.
    const point = orElse(undefined, () => readFileSync(`${layer}/point`, 'latin1'))
    if (point !== undefined) list(`${layer}/upper`, point.replace(/\/$/, ''))
  }
  return { files, isWhole }
}

/** Opens a directory, whose entries are read one after the other. @param path in Latin-1, as their names are */
function openList(path: string): { read(): string | undefined } & Disposable {
  const directory = opendirSync(Buffer.from(path, 'latin1') as unknown as string, { encoding: 'latin1' as 'utf8' })
  return { read: () => directory.readSync()?.name, [Symbol.dispose]: () => directory.closeSync() }
}

/** Copies owner and mode to the upper directory, from which the root of an overlay takes them. */
function copyOwner(from: string, to: string): void {
  const { uid, gid, mode } = statSync(from)
  chownSync(to, uid, gid)
  chmodSync(to, mode & 0o7777)
}

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
function makeMountPoints({ tree }: Rootfs): void {
  for (const { path } of DEV) inside(tree, path)[Symbol.dispose]()
}

/** Mounts the tree as the container's root. What the container writes there is kept. */
function mountRootfs({ tree }: Rootfs, userns?: Handle): void {
  using target = openDirectory(layout.root)
  try {
    tree.mountOn(target, { userns })
  } catch (error) {
    if (!isErrno(error, 'EINVAL') || !userns) throw error
    throw cannot(tree.path, "its file system cannot map ids; give the tree to the container's ids")
  }
}

/** A directory that is empty at the start and belongs to the container's root. */
interface Fresh {
  readonly path: string
  readonly mode: number
}

/**
 * /dev, which every root gets. It is on a tmpfs that the host mounted: the kernel refuses to open device nodes on a
 * file system that the container's user namespace mounts, as runtimes do.
 */
const DEV: readonly Fresh[] = [{ path: '/dev', mode: 0o755 }]

/** Directories of the default root in which programs write. */
const WRITABLE: readonly Fresh[] = [
  { path: '/root', mode: 0o700 },
  { path: '/tmp', mode: 0o1777 },
  { path: '/var/tmp', mode: 0o1777 },
  { path: '/run', mode: 0o755 },
]

const stored = (path: string): string => layout.fresh + path

function makeOwned(path: string, mode: number, { uid, gid }: IdRange): void {
  mkdirSync(path, { recursive: true })
  chownSync(path, uid, gid)
  chmodSync(path, mode)
}

const isLink = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false

/** Mounts the directories into the tree, except where the tree has a symbolic link, such as /var/tmp to /tmp. */
function placeFresh(root: Handle, directories: readonly Fresh[], owner: IdRange): void {
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
function clearWay(root: Handle, target: string, owner: IdRange): void {
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
function fillFresh(owner: IdRange, hasRun: boolean): void {
  makeOwned(stored('/dev/shm'), 0o1777, owner)
  if (hasRun) makeOwned(stored('/run/lock'), 0o1777, owner)
}

/** A device of the host that the container gets. */
export interface Device {
  /** The path relative to /dev. */
  readonly name: string
  readonly kind: 'c' | 'b'
  readonly dev: Dev
}

/**
 * Parses `--device PATH[:PATH]`.
 *
 * @throws {Error} if the first PATH names no device of the host, the second is not below /dev, or there are more parts
 */
export function readDevice(text: string): Device {
  const [source = '', target = source, ...more] = text.split(':')
  const found = statSync(source, { throwIfNoEntry: false })
  if (!found) throw new Error(`Cannot use --device "${text}": no such device; "ls -l /dev" shows those of the host`)
  if (!found.isCharacterDevice() && !found.isBlockDevice()) {
    throw new Error(`Cannot use --device "${text}": it is not a device; "ls -l /dev" shows those of the host`)
  }
  if (more.length > 0) {
    throw new Error(
      `Cannot use --device "${text}": the form is PATH[:PATH], and the container may always read and write; leave out ":${more.join(':')}"`,
    )
  }
  const path = normalize(target)
  if (!path.startsWith('/dev/'))
    throw new Error(
      `Cannot use --device "${text}": the container's path must lie below /dev; leave it out to use the host's path`,
    )
  return { name: path.slice('/dev/'.length), kind: found.isBlockDevice() ? 'b' : 'c', dev: found.rdev as Dev }
}

export const ruleFor = ({ kind, dev }: Pick<Device, 'kind' | 'dev'>): DeviceRule => ({
  allow: true,
  type: kind,
  major: major(dev),
  minor: minor(dev),
  access: 'rwm',
})

/**
 * Makes a node that belongs to the container, whose root may then open it and change its mode; the host's node is not
 * shared.
 */
function placeDevice({ name, kind, dev }: Device, owner: IdRange): void {
  const path = `${layout.fresh}/dev/${name}`
  for (const directory of above(`/dev/${name}`).slice(1))
    if (!existsSync(stored(directory))) makeOwned(stored(directory), 0o755, owner)
  using parent = openDirectory(dirname(path))
  const mode = (kind === 'c' ? S_IFCHR : S_IFBLK) | 0o600
  mknodat(parent, cstring(basename(path)) as PathBytes, mode as Mode, dev)
  chownSync(path, owner.uid, owner.gid)
}
