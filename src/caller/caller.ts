import type { Dev, PathBytes, Tid, TypedDev } from '../abi/brand.ts'
import { type Cap, capBit, type IdExtent, OVERFLOW_ID, toInside, toOutside } from '../abi/credentials.ts'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD, O_NOFOLLOW, O_PATH, O_RDONLY, R_OK, W_OK } from '../abi/fcntl.ts'
import { ST_NODEV } from '../abi/mount.ts'
import { parseLimits } from '../abi/process.ts'
import type { SchedAttr } from '../abi/sched.ts'
import {
  CGROUP2_SUPER_MAGIC,
  DEVPTS_SUPER_MAGIC,
  fileType,
  MQUEUE_MAGIC,
  PROC_SUPER_MAGIC,
  S_IFBLK,
  S_IFCHR,
  SYSFS_MAGIC,
  typedDev,
} from '../abi/stat.ts'
import type { Write } from '../calls/act.ts'
import type { Caller as CallerContract, DeviceRules, NodeLike, NodevReason, Task } from '../calls/caller.ts'
import { namedBy } from '../calls/context.ts'
import type { SourceKind } from '../calls/mounts.ts'
import { type Phase, phases, type Step, steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { isErrno, orUndefined } from '../kernel/error.ts'
import type { Fd, Handle } from '../kernel/fd.ts'
import {
  access,
  deviceOf,
  fileSystemType,
  fstatfs,
  mountNumber,
  openat,
  read,
  readlink,
  statx,
} from '../kernel/files.ts'
import type { Mount } from '../kernel/procfs/mountinfo.ts'
import { schedulingOf } from '../kernel/sched.ts'
import { NOBODYS } from '../policy/devices.ts'
import type { CallerMemory } from './caller-memory.ts'
import { type CallerIdentity, type DeviceNodes, isPinned, type NodevProbe } from './devices/nodev.ts'
import { CallerFuse } from './fuse/fuse.ts'
import type { FuseServices } from './fuse/fuse-caller.ts'
import type { Container } from './identity/container.ts'
import type { ThreadIdentity } from './identity/thread-identity.ts'
import { CallerMounts, isTmpfsOfHost, type MountServices, mountinfoEntry } from './mounts/caller-mounts.ts'
import { type LookupServices, splitParent } from './paths/lookup-types.ts'
import { PathResolver } from './paths/path-resolver.ts'
import type { BpfProgramStore } from './programs/bpf-program-store.ts'
import { CallerBpf, type CgroupLink } from './programs/caller-bpf.ts'
import { CallerTask } from './task/caller-task.ts'
import { findTask } from './task/find-task.ts'
import type { ProcAccess } from './task/proc-access.ts'
import { readProcText } from './task/same-as-init.ts'
import type { SleepState } from './task/sleep-state.ts'

/** The descriptor table of one thread, which need not be the table of its process (CLONE_FILES). */
interface FdTable {
  readonly tid: Tid
  readonly tgid: number
  /** The thread's directory in the host's procfs. */
  readonly task: Handle
  readonly identity: ThreadIdentity
}

const name = (fd: number): Uint8Array => Buffer.from(`fd/${fd}\0`)

const unlessClosed = <T>(look: () => T): T | undefined => orUndefined(['ENOENT', 'EBADF'], look)

/**
 * Returns an O_PATH handle of what a descriptor names; undefined if it is not open. O_PATH neither opens nor closes a
 * file, so no file system of the container is asked.
 */
const handleOf = ({ task, identity }: FdTable, fd: number): Fd | undefined =>
  unlessClosed(() => identity.searching(() => openat(task.raw, name(fd), O_PATH)))

const LINK = 'anon_inode:bpf_link'
/** @see linux/kernel/bpf/syscall.c bpf_link_show_fdinfo(), linux/kernel/bpf/cgroup.c bpf_cgroup_link_show_fdinfo() */
const FIELDS = /^link_id:\s*(\d+)\n(?:.*\n)*prog_id:\s*(\d+)\n(?:.*\n)*cgroup_id:\s*(\d+)\nattach_type:\s*(\d+)$/m
const fdinfo = Buffer.alloc(4096)
/** More than /proc/TID/limits has. */
const LIMITS_SIZE = 4096

/**
 * Returns the BPF link for which a descriptor is open; undefined if it is closed, or of another kind. The descriptor is
 * never duplicated: another thread could put a file there that the container serves, and closing a duplicate of that
 * may take for ever. To read `fdinfo` asks no file system of a container.
 */
const cgroupLinkOf = ({ task, identity }: FdTable, fd: number): CgroupLink | undefined =>
  unlessClosed(() =>
    identity.searching(() => {
      using link = openat(task.raw, name(fd), O_PATH | O_NOFOLLOW)
      if (Buffer.from(readlink(link)).toString('latin1') !== LINK) return undefined
      using file = openat(task.raw, Buffer.from(`fdinfo/${fd}\0`), O_RDONLY)
      const found = FIELDS.exec(fdinfo.toString('latin1', 0, read(file, fdinfo)))?.slice(1)
      if (!found) return undefined
      const [id, program, group, attachType] = found as [string, string, string, string]
      return { id: Number(id), program: Number(program), group: BigInt(group), attachType: Number(attachType) }
    }),
  )

/** Tells what device rules allow, from a cache that a probe renews. The caller's task is held while it is inspected. */
export interface DeviceRulesServices {
  /** Returns what the rules of the caller's cgroups allow; undefined if that cannot be found out. */
  ofCaller(container: Container, dev: TypedDev, callerTask: CallerTask): DeviceRules | undefined
  /** The same of the cgroups in which the container was handed over. */
  ofHandover(container: Container, dev: TypedDev, callerTask: CallerTask): DeviceRules | undefined
}

/**
 * Counts what the kernel keeps for a container in memory of ours. Each method returns false beyond the container's
 * limit, and then counts nothing.
 */
export interface PinnedCounts {
  /** @param files what is kept, as so many files */
  count(container: number, files: number): boolean
  /** @param dir where the file is made */
  countFile(container: number, dir: Handle): boolean
}

/** What a thread needs to serve callers; it is made once per thread. */
export interface ThreadContext extends ProcAccess, LookupServices {
  /** The memory of the thread whose call is served. */
  readonly memory: CallerMemory
  /** Our own /proc/self/fd in `proc`. */
  readonly descriptors: Handle
  /** The buffer of the path of a parent directory; only one is looked up at a time. */
  readonly parentPath: Uint8Array
  readonly deviceNodes: DeviceNodes
  readonly nodev: NodevProbe
  readonly rules: DeviceRulesServices
  /** The BPF device programs that containers have loaded. */
  readonly programs: BpfProgramStore
  /** Counts a mount for a container, and tells whether it is within the container's limit. */
  readonly mayMount: (container: Container) => boolean
  readonly pinned: PinnedCounts
  /** Returns what sysinfo(2) shall report. */
  readonly sysinfo: { report(container: Container, bits: 32 | 64, caller: CallerTask): Uint8Array }
  readonly mounts: MountServices
  readonly fuse: FuseServices
}

/** The calling thread, as the notification names it. */
interface Thread {
  readonly tid: Tid
  readonly bits: 32 | 64
}

interface Waiting {
  /** Asks the kernel whether the call still waits (SECCOMP_IOCTL_NOTIF_ID_VALID). */
  readonly waits: () => boolean
  /** Writes a note to the journal, where the next engine finds it. */
  readonly notes: (what: bigint) => void
  readonly noted: bigint
}

/** What a file without contents takes of memory, about: attributes and contents count as so many files. */
const FILE_BYTES = 1024

/** Types that only the container itself mounts of what it sees, as statfs(2) has them. */
const ONLY_INSIDE: ReadonlySet<number> = new Set([
  ...[PROC_SUPER_MAGIC, SYSFS_MAGIC, DEVPTS_SUPER_MAGIC, MQUEUE_MAGIC, CGROUP2_SUPER_MAGIC],
])

const isMapped = (map: readonly IdExtent[], id: number): boolean =>
  id !== OVERFLOW_ID && toInside(map, id) !== undefined

const optional = (fd: Fd | undefined, own: (fd: Fd) => Fd): Fd | undefined => fd && own(fd)

/**
 * Answers a handler's questions about the thread that made one call. Its `/proc/TID` handles are opened first, then
 * the call is checked to be still waiting, then only the handles are used. `using` closes them and returns the
 * serving thread home.
 */
export class NotifiedCaller implements CallerContract, Disposable {
  readonly tid: Tid
  readonly bits: 32 | 64
  readonly noted: bigint
  readonly #context: ThreadContext
  readonly #container: Container
  readonly #callerTask: CallerTask
  readonly #paths: PathResolver
  readonly #notes: (what: bigint) => void
  #mounts: CallerMounts | undefined
  #programs: CallerBpf | undefined

  constructor(context: ThreadContext, container: Container, { tid, bits }: Thread, { waits, notes, noted }: Waiting) {
    this.#context = context
    this.#container = container
    this.tid = tid
    this.bits = bits
    this.#callerTask = new CallerTask(context, tid, waits)
    this.#paths = new PathResolver(context, container, this.#callerTask)
    this.#notes = notes
    this.noted = noted
    context.identity.begin(phases.looking)
  }

  /** Starts `phase`: from now on only the steps that it declares can be in effect. */
  begin(phase: Phase): void {
    this.#context.identity.begin(phase)
  }

  systemInfo(): Uint8Array {
    return this.#context.sysinfo.report(this.#container, this.bits, this.#callerTask)
  }

  bytes(at: bigint, length: number): Uint8Array {
    return this.#context.memory.bytes(at, length)
  }

  /**
   * Writes into the caller's memory. The thread returns home first, since with the caller's ids it could not open the
   * memory. The memory is opened before the check that the call still waits: another thread of the process may call
   * execve(2), which ends the caller and gives its number to a thread with the memory of another, perhaps
   * set-user-ID, program.
   *
   * @throws {SyscallError} EFAULT; the bytes before the bad page are then written, as the kernel does
   */
  write(writes: readonly Write[]): void {
    this.#context.identity.home()
    this.begin(phases.answering)
    const held = this.#callerTask.openMemory()
    this.#callerTask.mustWait()
    const { memory } = this.#context
    const fetch = (at: bigint, length: number): void => memory.fetch(at, length)
    for (const { at, bytes } of writes) held.write(at, bytes, fetch)
  }

  get mayComeAgain(): boolean {
    return !this.#container.waitKillable
  }

  get inInitialUserns(): boolean {
    return this.#callerTask.userns === Number(this.#container.userns)
  }

  get mayHaveTokens(): boolean {
    return this.#container.mayHaveTokens === true
  }

  holds(cap: Cap): boolean {
    return (this.#callerTask.status.effective & capBit(cap)) !== 0n
  }

  commands(inode: Handle, cap: Cap): boolean {
    if (!this.holds(cap)) return false
    const { uid, gid } = statx(inode.raw)
    const { uidMap, gidMap } = this.#container
    return isMapped(uidMap, uid) && isMapped(gidMap, gid)
  }

  parent(dirfd: number, path: PathBytes): { dir: Handle; name: PathBytes } {
    const { parent, name } = splitParent(path, this.#context.parentPath)
    return { dir: this.#paths.resolve(dirfd, { path: parent, wanted: 'directory' }), name }
  }

  object(dirfd: number, path: PathBytes, follow: boolean): Handle {
    return this.#paths.resolve(dirfd, { path, wanted: follow ? 'object' : 'link' })
  }

  descriptor(fd: number): Handle {
    const object = this.#callerTask.base(fd)
    if (fd !== AT_FDCWD) this.#callerTask.mustBeOpen(fd)
    this.#paths.enter()
    return object
  }

  get descriptors(): Handle {
    return this.#context.descriptors
  }

  task(pid: number): Task {
    const found = findTask(this.#paths.view, pid)
    this.#callerTask.own(found.pidfd)
    return found
  }

  scheduling({ tid }: Task): SchedAttr {
    return schedulingOf(tid)
  }

  hardLimit({ pidfd }: Task, resource: number): bigint | undefined {
    // An ended task has no such file any more, or an empty one.
    return orUndefined(
      ['ESRCH', 'ENOENT'],
      () => parseLimits(readProcText(pidfd, 'limits', LIMITS_SIZE))[resource]?.hard,
    )
  }

  get canRaiseLimits(): boolean {
    return this.#context.identity.permits(steps.limit)
  }

  deviceRules(dev: Dev, type = S_IFCHR): DeviceRules {
    const rules = this.#context.rules.ofCaller(this.#container, typedDev(type, dev), this.#callerTask)
    if (!rules) throw new ContinueError('deviceRulesUnknown')
    return rules
  }

  deniesOtherDevices(type: number): boolean {
    const rules = this.#context.rules.ofHandover(this.#container, typedDev(type, NOBODYS), this.#callerTask)
    if (!rules) throw new ContinueError('deviceRulesUnknown')
    return !rules.open
  }

  devicesBarred(dir: Handle, name: PathBytes): NodevReason | undefined {
    return this.#context.nodev.look({ dir, name }, this.#identityAt(dir))
  }

  mountedInside(file: Handle): boolean {
    if (ONLY_INSIDE.has(fileSystemType(file))) return true
    this.#context.mayBlock()
    return this.#context.nodev.isInside(file, this.#identityAt(file))
  }

  sourceKind(node: Handle, writable: boolean): SourceKind {
    if (fileType(statx(node.raw).mode) !== S_IFBLK) return { other: true }
    // The kernel refuses a device on a nodev mount: linux/fs/namei.c may_open_dev()
    if ((fstatfs(node).flags & ST_NODEV) !== 0) return { errno: errno('EACCES') }
    const mode = R_OK | (writable ? W_OK : 0)
    return this.#mayOpen(node, mode) ? { dev: deviceOf(node), writable } : { errno: errno('EACCES') }
  }

  /** Tells whether the caller may open a node, by its ids and groups or by its own capability over it. */
  #mayOpen(node: Handle, mode: number): boolean {
    try {
      this.act(steps.asCaller, () => access(node, mode))
      return true
    } catch (error) {
      if (!isErrno(error, 'EACCES')) throw error
      return this.commands(node, 'DAC_OVERRIDE')
    }
  }

  mustBeCharged(file: Handle, bytes?: number): boolean {
    const { pinned } = this.#context
    const { index } = this.#container
    if (!isPinned(file)) return false
    return bytes === undefined ? !pinned.countFile(index, file) : !pinned.count(index, Math.ceil(bytes / FILE_BYTES))
  }

  #identityAt(dir: Handle): CallerIdentity {
    return {
      identity: this.#context.identity,
      fsuid: this.#callerTask.status.uids[3],
      isOfHost: () => this.#isOfHost(dir),
      isNodevOfRuntime: () => this.#isNodevOfRuntime(dir),
    }
  }

  /** Tells whether a directory is on a tmpfs that was mounted outside of the container. */
  #isOfHost(dir: Handle): boolean {
    const { uidMap, gidMap } = this.#container
    const mount = this.#mountOf(dir)
    return mount !== undefined && isTmpfsOfHost(mount, uidMap, gidMap)
  }

  /** Undefined if the caller's mounts do not tell. */
  #isNodevOfRuntime(dir: Handle): boolean | undefined {
    const { nodev } = this.#container
    const device = this.#mountOf(dir)?.device
    return device === undefined ? undefined : nodev?.has(device) === true
  }

  #mountOf(dir: Handle): Mount | undefined {
    const { identity, proc, mayBlock } = this.#context
    mayBlock()
    return identity.looking(() => mountinfoEntry(this.#callerTask.task, mountNumber(proc, dir)))
  }

  mountNode(node: NodeLike, target: Handle): void {
    const { identity, deviceNodes: nodes, mayMount } = this.#context
    if (!mayMount(this.#container)) throw new ContinueError('tooManyMounts')
    this.#callerTask.mustWait()
    const namespace = this.mounts.namespace()
    nodes.use(identity, node, {
      lock: (tree) => this.mounts.lock(tree),
      attach: (copy) => this.mounts.attach(copy, { target, namespace }, false),
    })
  }

  hostId(kind: 'uid' | 'gid', id: number): number | undefined {
    return toOutside(kind === 'uid' ? this.#container.uidMap : this.#container.gidMap, id)
  }

  get mounts(): CallerMounts {
    this.#mounts ??= new CallerMounts({
      tid: this.tid,
      container: this.#container,
      identity: this.#context.identity,
      services: this.#context.mounts,
      task: () => this.#callerTask.task,
      status: () => this.#callerTask.status,
      waits: this.#callerTask.waits,
      mayBlock: this.#context.mayBlock,
      own: (handle) => this.#callerTask.own(handle),
    })
    return this.#mounts
  }

  get sleep(): SleepState {
    return this.#callerTask.sleep
  }

  note(what: bigint): void {
    this.#notes(what)
  }

  /** Returns the number of the caller's descriptor that a note names; undefined if the caller has not got it. */
  given(note: bigint): number | undefined {
    const named = namedBy(note)
    if (!named) return undefined
    return 'kept' in named ? this.mounts.given(named.kept) : this.devicePrograms.given(named.standIn)
  }

  get fuse(): CallerFuse {
    const { identity, fuse: services, proc, mayBlock } = this.#context
    const outsideProc = (path: PathBytes): Handle => this.#paths.resolve(AT_FDCWD, { path, wanted: 'outsideProc' })
    const parts = { identity, services, proc, mayBlock, outsideProc, caller: this, container: this.#container }
    return new CallerFuse({ ...parts, tid: this.tid, task: () => this.#callerTask.task, waits: this.#callerTask.waits })
  }

  act<T>(step: Step, action: () => T, own = 0): T {
    this.#callerTask.mustWait()
    return this.look(step, action, own)
  }

  look<T>(step: Step, action: () => T, own = 0): T {
    this.#context.identity.with(step, own)
    return action()
  }

  get devicePrograms(): CallerBpf {
    this.#programs ??= this.#devicePrograms()
    return this.#programs
  }

  #devicePrograms(): CallerBpf {
    const { identity, proc, mayBlock, programs: store } = this.#context
    const table = (): FdTable => {
      const { status, task } = this.#callerTask
      return { tid: this.tid, tgid: status.tgid, task, identity }
    }
    const own = (fd: Fd): Fd => this.#callerTask.own(fd)
    return new CallerBpf({
      ...{ identity, proc, mayBlock, store, own, container: this.#container },
      tgid: () => this.#callerTask.status.tgid as Tid,
      handleOf: (fd) => optional(handleOf(table(), fd), own),
      linkOf: (fd) => cgroupLinkOf(table(), fd),
    })
  }

  [Symbol.dispose](): void {
    this.#context.identity.home()
    this.#callerTask[Symbol.dispose]()
    if (this.#mounts) this.#context.mounts.settle()
  }
}
