import type { Dev, Mode, PathBytes, Tid } from '../abi/brand.ts'
import { type Cap, capMask } from '../abi/capability.ts'
import { makedev } from '../abi/dev.ts'
import { errnos } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { type IdExtent, toInside, toOutside } from '../abi/id-map.ts'
import { S_IFCHR } from '../abi/stat.ts'
import type { Write } from '../calls/act.ts'
import type { Barred, Caller as CallerContract, NodeLike, Task } from '../calls/caller.ts'
import { PassOn } from '../calls/verdict.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import {
  fstatfs,
  identify,
  linkMode,
  mknodat,
  mountId,
  namespaceInode,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  openat,
  read,
} from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { copyFrom, copyTo, type RemoteMemory } from '../kernel/memory.ts'
import { attachTree } from '../kernel/mount.ts'
import type { Container } from './container.ts'
import { copyOf, handleOf } from './descriptors.ts'
import { DevicePrograms } from './device-programs.ts'
import { CallerFuse, type FuseDesk } from './fuse.ts'
import { type Goal, lookup, type Start } from './lookup.ts'
import { CallerMounts, type MountDesk } from './mounts.ts'
import type { Nodes } from './nodes.ts'
import { isAbsolute, splitParent } from './path.ts'
import type { ProgramStore } from './program-store.ts'
import { Sleep } from './sleep.ts'
import { parseStatus, type Status } from './status.ts'
import { readOptions, readString } from './strings.ts'
import { findTask } from './task.ts'
import type { TaskNames } from './task-names.ts'
import type { ThreadIdentity } from './thread-identity.ts'

/** What a thread needs to look at callers: made once. */
export interface Desk {
  readonly identity: ThreadIdentity
  readonly memory: RemoteMemory
  /** The host's /proc. */
  readonly proc: Handle
  readonly names: TaskNames
  /** Our own /proc/self/fd there. */
  readonly descriptors: Handle
  readonly status: Buffer
  readonly nodes: Nodes
  /** By mount: whether its file system was mounted inside a container. */
  readonly mounts: Map<bigint, boolean>
  /**
   * What the device rules of a task's control groups allow; asked once in a while. `stillThere` is called after the task was
   * looked at, and throws if it may have been another one.
   */
  readonly deviceRules: (
    container: Container,
    tid: Tid,
    dev: Dev,
    stillThere: () => void,
  ) => { readonly mknod: boolean; readonly open: boolean }
  /** The device programs that containers have loaded. */
  readonly programs: ProgramStore
  /** Counts the mounts that a container gets. */
  readonly mayMount: (container: Container) => boolean
  /** Knows what sysinfo(2) shall report. */
  readonly informant: { report(container: Container, bits: 32 | 64): Uint8Array }
  readonly mounting: MountDesk
  readonly fuse: FuseDesk
  /** Called before something that may block for long. */
  readonly mayBlock: () => void
  /** Lets the container's walker look up. @throws {PassOn} if it has none that answers */
  readonly walk: (container: Container, start: Start, status: Status, goal: Goal) => Fd
}

/** Who made the call, by the notification. */
interface Thread {
  readonly tid: Tid
  readonly bits: 32 | 64
}

interface Waiting {
  /** Asks the kernel whether the call still waits (SECCOMP_IOCTL_NOTIF_ID_VALID). */
  readonly waits: () => boolean
  /** Where a note stays when this engine ends. */
  readonly notes: (what: bigint) => void
}

const PATH_MAX = 4096
const BYTES_MAX = 65536
const LOOKUP = O_PATH | O_DIRECTORY

/** File systems that a container can mount by itself and in which mknod(2) works; linux/magic.h. */
const FUSE_SUPER_MAGIC = 0x65735546
const MEMORY: ReadonlySet<number> = new Set([0x01021994 /* tmpfs */, 0x858458f6 /* ramfs */])
const OVERLAY = 0x794c7630
const MOUNTABLE_INSIDE: ReadonlySet<number> = new Set([...MEMORY, OVERLAY, FUSE_SUPER_MAGIC])
const ST_NODEV = 4
/** Answers that come after the mapping of ids was looked at, or from it; EEXIST comes before. */
const CONCLUSIVE: ReadonlySet<number> = new Set([errnos.EOVERFLOW, errnos.EPERM, errnos.EACCES])
const MOUNTS_KNOWN = 1024
const DEV_NULL = makedev(1, 3)
/** What shows for an id that a mount or a namespace does not map. */
const OVERFLOW_ID = 65534
const isMapped = (map: readonly IdExtent[], id: number): boolean =>
  id !== OVERFLOW_ID && toInside(map, id) !== undefined

const optional = (fd: Fd | undefined, own: (fd: Fd) => Fd): Fd | undefined => fd && own(fd)

/**
 * The thread that made one call. Handles of `/proc/TID` are opened first, then the call is checked to be still waiting,
 * then only the handles are used. `using` closes them and brings the serving thread home.
 */
export class Caller implements CallerContract, Disposable {
  readonly tid: Tid
  readonly bits: 32 | 64
  readonly #desk: Desk
  readonly #container: Container
  readonly #waits: () => boolean
  readonly #notes: (what: bigint) => void
  readonly #opened: Disposable[] = []
  #taskDir: Fd | undefined
  #read: Status | undefined
  #onFuse = false
  #mounts: CallerMounts | undefined

  constructor(desk: Desk, container: Container, { tid, bits }: Thread, { waits, notes }: Waiting) {
    this.#desk = desk
    this.#container = container
    this.tid = tid
    this.bits = bits
    this.#waits = waits
    this.#notes = notes
  }

  systemInfo(): Uint8Array {
    return this.#desk.informant.report(this.#container, this.bits)
  }

  bytes(at: bigint, length: number): Uint8Array {
    if (length > BYTES_MAX) throw new PassOn('unreadable')
    return this.#orPass('unreadable', () => copyFrom(this.#desk.memory, this.tid, at, length))
  }

  /**
   * Writes into the caller's memory, from home: a thread with the caller's own ids could not. Another task could have the
   * number by now only if the caller was killed since the look at it and every number was given out meanwhile.
   *
   * @throws {SyscallError} EFAULT; what comes before the bad page is written then, as the kernel does it
   */
  write(writes: readonly Write[]): void {
    this.#desk.identity.home()
    this.#mustWait()
    for (const { at, bytes } of writes) copyTo(this.#desk.memory, this.tid, at, bytes)
  }

  path(at: bigint): PathBytes {
    const { memory } = this.#desk
    const length = this.#orPass('unreadable', () => memory.read(this.tid, at, PATH_MAX))
    const end = memory.bytes.indexOf(0)
    if (end < 0 || end >= length) throw new PassOn('unreadable')
    if (end === 0) throw new PassOn('pathNotResolved')
    return memory.bytes.slice(0, end + 1) as PathBytes
  }

  string(at: bigint, limit?: number): string | undefined {
    if (at === 0n) return undefined
    return this.#orPass('unreadable', () => readString(this.#desk.memory, this.tid, at, limit))
  }

  options(at: bigint): string | undefined {
    if (at === 0n) return undefined
    return this.#orPass('unreadable', () => readOptions(this.#desk.memory, this.tid, at))
  }

  get inInitialUserns(): boolean {
    const { proc, names } = this.#desk
    const inode = this.#orPass('gone', () => namespaceInode(proc.raw, names.of(this.tid, 'ns/user')))
    return inode === Number(this.#container.userns)
  }

  holds(cap: Cap): boolean {
    return (this.#status.effective & capMask(cap)) !== 0n
  }

  commands(inode: Handle, cap: Cap): boolean {
    if (!this.holds(cap)) return false
    const { uid, gid } = identify(inode.raw)
    const { uidMap, gidMap } = this.#container
    return isMapped(uidMap, uid) && isMapped(gidMap, gid)
  }

  parent(dirfd: number, path: PathBytes): { dir: Handle; name: PathBytes } {
    const { parent, name } = splitParent(path)
    return { dir: this.#resolve(dirfd, { path: parent, wanted: 'directory' }), name }
  }

  object(dirfd: number, path: PathBytes, follow: boolean): Handle {
    return this.#resolve(dirfd, { path, wanted: follow ? 'object' : 'link' })
  }

  descriptor(fd: number): Handle {
    const object = this.#base(fd)
    if (fd !== AT_FDCWD) this.#mustBeOpen(fd)
    this.#enter()
    return object
  }

  get descriptors(): Handle {
    return this.#desk.descriptors
  }

  task(pid: number): Task {
    const { proc } = this.#desk
    const mustWait = (): void => this.#mustWait()
    const found = findTask({ container: this.#container, tid: this.tid, task: this.#task, proc, mustWait }, pid)
    this.#own(found.pidfd)
    return found
  }

  deviceRules(dev: Dev): { readonly mknod: boolean; readonly open: boolean } {
    return this.#desk.deviceRules(this.#container, this.tid, dev, () => this.#mustWait())
  }

  devicesBarred(dir: Handle, name: PathBytes): Barred | undefined {
    const { type, flags } = fstatfs(dir)
    this.#onFuse = type === FUSE_SUPER_MAGIC
    const inside = (): boolean => this.#madeInside(dir, name)
    if ((flags & ST_NODEV) !== 0) {
      // The root of a container of podman is such a one: an overlay of the host, by default with nodev.
      const mountable = MEMORY.has(type) || !MOUNTABLE_INSIDE.has(type) || (type === OVERLAY && !inside())
      return { why: 'nodevMount', mountable }
    }
    if (!MOUNTABLE_INSIDE.has(type) || !inside()) return undefined
    return { why: 'containerSuperblock', mountable: MEMORY.has(type) }
  }

  mountNode(node: NodeLike, target: Handle): void {
    const { identity, nodes, mayMount } = this.#desk
    if (!mayMount(this.#container)) throw new PassOn('tooManyMounts')
    this.#mustWait()
    const mounts = this.mounts.namespace()
    nodes.use(identity, node, (copy) => identity.inMounts(mounts, () => attachTree(copy, target)))
  }

  hostId(kind: 'uid' | 'gid', id: number): number | undefined {
    return toOutside(kind === 'uid' ? this.#container.uidMap : this.#container.gidMap, id)
  }

  get mounts(): CallerMounts {
    this.#mounts ??= new CallerMounts({
      tid: this.tid,
      container: this.#container,
      identity: this.#desk.identity,
      desk: this.#desk.mounting,
      task: () => this.#task,
      tgid: () => this.#status.tgid as Tid,
      proc: this.#desk.proc,
      waits: this.#waits,
      mayBlock: this.#desk.mayBlock,
      own: (handle) => this.#own(handle),
    })
    return this.#mounts
  }

  get sleep(): Sleep {
    const { proc, names, identity } = this.#desk
    return new Sleep({ tid: this.tid, proc, names, identity })
  }

  note(what: bigint): void {
    this.#notes(what)
  }

  get fuse(): CallerFuse {
    const { identity, fuse: desk, proc, mayBlock } = this.#desk
    const parts = { identity, desk, proc, mayBlock, caller: this, container: this.#container }
    return new CallerFuse({ ...parts, tid: this.tid, task: () => this.#task, waits: this.#waits })
  }

  act<T>(caps: readonly Cap[], action: () => T): T {
    this.#mustWait()
    return this.look(caps, action)
  }

  look<T>(caps: readonly Cap[], action: () => T): T {
    this.#desk.identity.with(caps)
    try {
      return action()
    } catch (error) {
      // A FUSE file system of the container refuses *us*, before it looks at the caller: nothing was done.
      if (this.#onFuse && error instanceof SyscallError && error.errno === errnos.EACCES)
        throw new PassOn('containerSuperblock')
      throw error
    }
  }

  get devicePrograms(): DevicePrograms {
    const { identity, proc, mayBlock, programs: store } = this.#desk
    const table = { tid: this.tid, tgid: this.#status.tgid, task: this.#task, identity }
    const own = (fd: Fd): Fd => this.#own(fd)
    return new DevicePrograms({
      ...{ identity, proc, mayBlock, store, own, container: this.#container },
      handleOf: (fd) => optional(handleOf(table, fd), own),
      copyOf: (fd, kind) => optional(copyOf(table, fd, kind), own),
    })
  }

  [Symbol.dispose](): void {
    this.#desk.identity.home()
    for (const fd of this.#opened) fd[Symbol.dispose]()
  }

  /** Was the file system mounted in the container's own user namespace? That never changes for a mount. */
  #madeInside(dir: Handle, name: PathBytes): boolean {
    const { mounts } = this.#desk
    const mount = mountId(dir)
    const known = mount === undefined ? undefined : mounts.get(mount)
    if (known !== undefined) return known
    const errno = this.#tryAsHostRoot(dir, name)
    if (mount !== undefined && CONCLUSIVE.has(errno)) {
      if (mounts.size >= MOUNTS_KNOWN) mounts.clear()
      mounts.set(mount, errno === errnos.EOVERFLOW)
    }
    return errno === errnos.EOVERFLOW
  }

  /**
   * Nothing tells directly who mounted a file system (SB_I_NODEV does not show in statfs). But one of the container maps no
   * id of the host's root: creating anything as that user gives EOVERFLOW before all other checks of permission. Without
   * CAP_MKNOD the call cannot succeed.
   *
   * @see linux/fs/namei.c may_create(), fsuidgid_has_mapping()
   */
  #tryAsHostRoot(dir: Handle, name: PathBytes): number {
    return this.#desk.identity.asHostRoot(this.#status.uids[3], () => {
      try {
        mknodat(dir, name, S_IFCHR as Mode, DEV_NULL)
      } catch (error) {
        if (error instanceof SyscallError) return error.errno
        throw error
      }
      throw new Error('Cannot go on: a node was made without CAP_MKNOD')
    })
  }

  #resolve(dirfd: number, goal: Goal): Fd {
    const absolute = isAbsolute(goal.path)
    const base = absolute ? this.#link('root') : this.#base(dirfd)
    const { tgid } = this.#enter()
    return this.#lookup(this.#start(base, absolute, tgid), goal)
  }

  /** Most paths need neither the root nor the procfs of the caller, so they are opened when they do. */
  #start(base: Fd, isRoot: boolean, tgid: number): Start {
    const { identity, proc } = this.#desk
    let opened = isRoot ? base : undefined
    const root = (): Fd => {
      opened ??= this.#link('root')
      // What was opened by the number of a task that still waits is its own.
      this.#mustWait()
      return opened
    }
    return {
      ...{ base, proc, root, numbers: [this.tid, tgid] },
      task: () => identity.looking(() => this.#task),
      stand: () => identity.stand(root()),
    }
  }

  /** Becomes the caller, after everything that is needed of it was opened. */
  #enter(): Status {
    const status = this.#status
    this.#mustWait()
    this.#desk.identity.enter(status)
    return status
  }

  /**
   * A descriptor of O_PATH is no open file to most calls: EBADF. Its link in procfs has no permission at all, as the only
   * kind but that of the access mode 3, which nobody uses (linux/fs/proc/fd.c tid_fd_update_inode()).
   */
  #mustBeOpen(fd: number): void {
    const { identity, proc, names } = this.#desk
    const look = (): number => linkMode(proc, names.of(this.tid, `fd/${fd}`))
    const mode = this.#orPass('pathNotResolved', () => identity.searching(look))
    if ((mode & 0o700) === 0) throw new PassOn('pathDescriptor')
  }

  /** Looks up as the caller; where only its own user namespace is let in, its walker does. */
  #lookup(start: Start, goal: Goal): Fd {
    const { mayBlock, walk } = this.#desk
    try {
      return this.#own(lookup(start, goal, mayBlock))
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      if (error.errno !== errnos.EACCES)
        throw new PassOn(error.errno === errnos.ELOOP ? 'crossesProc' : 'pathNotResolved', error.errno)
    }
    return this.#orPass('pathNotResolved', () => this.#own(walk(this.#container, start, this.#status, goal)))
  }

  /** Its `/proc/TID`: not needed for most calls. */
  get #task(): Fd {
    if (!this.#taskDir) {
      const { proc, names } = this.#desk
      this.#taskDir = this.#orPass('gone', () => this.#own(openat(proc.raw, names.of(this.tid, '.'), LOOKUP)))
      this.#mustWait()
    }
    return this.#taskDir
  }

  get #status(): Status {
    this.#read ??= this.#orPass('gone', () => {
      const { proc, names, status } = this.#desk
      const file = openat(proc.raw, names.of(this.tid, 'status'), O_RDONLY)
      try {
        return parseStatus(status, read(file, status))
      } finally {
        file[Symbol.dispose]()
      }
    })
    return this.#read
  }

  #link(name: string): Fd {
    const { identity, proc, names } = this.#desk
    const open = (): Fd => this.#own(openat(proc.raw, names.of(this.tid, name), O_PATH))
    return this.#orPass('gone', () => identity.looking(open))
  }

  /** What a relative path starts from. The directory `/proc/TID/fd` is closed even to root without a capability over files. */
  #base(dirfd: number): Fd {
    if (dirfd === AT_FDCWD) return this.#link('cwd')
    const { identity, proc, names } = this.#desk
    const open = (): Fd => this.#own(openat(proc.raw, names.of(this.tid, `fd/${dirfd}`), O_PATH))
    return this.#orPass('pathNotResolved', () => identity.searching(open))
  }

  #mustWait(): void {
    if (!this.#waits()) throw new PassOn('gone')
  }

  #own<T extends Disposable>(fd: T): T {
    this.#opened.push(fd)
    return fd
  }

  /** A failed look at the caller is no errno of its call: the kernel shall judge. */
  #orPass<T>(code: 'gone' | 'unreadable' | 'pathNotResolved', look: () => T): T {
    try {
      return look()
    } catch (error) {
      if (error instanceof SyscallError) throw new PassOn(code, error.errno)
      throw error instanceof RangeError ? new PassOn(code) : error
    }
  }
}
