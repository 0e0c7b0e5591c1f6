import type { Dev, HostId, Mode, PathBytes, Tid } from '../abi/brand.ts'
import type { Cap } from '../abi/credentials.ts'
import type { SchedAttr } from '../abi/sched.ts'
import type { Handle } from '../kernel/fd.ts'
import type { DevicePrograms } from './device-programs.ts'
import type { Fuse } from './fuse.ts'
import type { Mounts, SourceKind } from './mounts.ts'
import type { Step } from './steps.ts'

/** The six argument registers of a call, each read with the type that the kernel gives it. */
export interface Registers {
  /** Reads an `int`: the low 32 bits, signed. */
  int(index: number): number
  /** Reads an `unsigned int` or a `mode_t`: the low 32 bits. */
  uint(index: number): number
  /** Reads a pointer or a `long`: all bits that the architecture has. */
  pointer(index: number): bigint
}

/** What the device rules of some control groups allow for one device. */
export interface DeviceRules {
  readonly mknod: boolean
  /** Opening the device to read or to write. */
  readonly open: boolean
  /** Opening it to read and to write. */
  readonly full: boolean
}

/** Why a device node in a directory could not be opened, and what is made there all the same. */
export interface NodevReason {
  readonly why: 'nodevMount' | 'containerSuperblock'
  /**
   * plain: a node that does not open, as for the host's root. covered: a node, and one of ours mounted on it, which
   * opens. none: the kernel makes no node there.
   */
  readonly node: 'plain' | 'covered' | 'none'
}

/** The attributes of a device node that we make. */
export interface NodeLike {
  readonly mode: Mode
  readonly dev: Dev
  readonly gid: HostId
  /** Whether it may be opened at all: what lets nobody open it is locked. */
  readonly opens: boolean
}

/** A task whose number cannot be mistaken: while its pidfd says that the task is not reaped, `tid` is its number. */
export interface Task {
  /** The number of the process or thread in our pid namespace. */
  readonly tid: Tid
  readonly pidfd: Handle
}

/** The memory of the thread that made the call: what a call uses of it is copied once. */
export interface MemoryReader {
  /**
   * Copies `length` bytes, at most 64 KiB.
   *
   * @param isText whether they are a text of the call's arguments, which is recorded up to its NUL
   * @throws {ContinueError} if not all can be read, as the kernel could not
   */
  bytes(at: bigint, length: number, isText?: boolean): Uint8Array
  /** Copies a path. @throws {ContinueError} if it cannot be read, as the kernel could not */
  path(at: bigint): PathBytes
  /**
   * Copies a string as Latin-1; undefined for a null pointer.
   *
   * @param limit in bytes, including the NUL
   * @throws {ContinueError} if it cannot be read, or is longer
   */
  string(at: bigint, limit?: number): string | undefined
  /** Copies the options of mount(2), at most a page, as Latin-1; undefined for a null pointer. */
  options(at: bigint): string | undefined
}

/**
 * Everything that a handler or verb may ask about the thread that made the call. Except for the methods which say that
 * they act, these only read and open.
 *
 * Precondition: only the engine thread that serves the call uses it, and only until the call is over.
 */
export interface Caller extends Pick<MemoryReader, 'bytes'> {
  readonly tid: Tid
  /** The word size of the call's architecture: the size of `long` and `size_t` in the caller's memory. */
  readonly bits: 32 | 64
  /** Returns `struct sysinfo` for the caller, in its architecture's layout; valid until the next call is served. */
  systemInfo(): Uint8Array
  /**
   * Returns whether the caller has a capability over an inode: it holds `cap`, and the inode's owner and group are
   * mapped in its user namespace.
   */
  commands(inode: Handle, cap: Cap): boolean
  /** Returns whether the caller has a capability in its own user namespace. */
  holds(cap: Cap): boolean
  /** Whether the caller is in the container's initial user namespace: only there its capabilities count. */
  readonly inInitialUserns: boolean
  /** Whether a policy of the container has ever delegated anything: nobody can take back a BPF token. */
  readonly mayHaveTokens: boolean
  /**
   * Resolves all but the last component as the caller.
   *
   * @returns the directory, and the last component with its trailing slashes
   * @throws {ContinueError} if it does not resolve
   */
  parent(dirfd: number, path: PathBytes): { readonly dir: Handle; readonly name: PathBytes }
  /**
   * Resolves a whole path as the caller, to an O_PATH handle: neither a device nor a fifo is opened by that.
   *
   * @param follow whether a symbolic link at the end is followed
   * @throws {ContinueError} if it does not resolve
   */
  object(dirfd: number, path: PathBytes, follow: boolean): Handle
  /**
   * Returns a handle of the file for which the caller's descriptor `fd` is open, or of its working directory.
   *
   * @throws {ContinueError} if `fd` is not open
   */
  descriptor(fd: number): Handle
  /**
   * Our /proc/self/fd, in which our handles have paths, for system calls that take no descriptor; see `DeviceNames`.
   */
  readonly descriptors: Handle
  /**
   * Returns the task of the container to which the caller refers by a number of its own pid namespace; 0 is the caller.
   *
   * @throws {ContinueError} if there is no such task
   */
  task(pid: number): Task
  /** Returns how a task is scheduled now. */
  scheduling(task: Task): SchedAttr
  /**
   * Returns the hard limit of a task's process on a resource; undefined if the process has ended.
   *
   * @param resource RLIMIT_*
   */
  hardLimit(task: Task, resource: number): bigint | undefined
  /** Whether we ourselves have the capability to raise limits: root of some machines lacks it. */
  readonly canRaiseLimits: boolean
  /**
   * Returns what the device rules of the caller's control groups allow.
   *
   * @param type S_IFCHR or S_IFBLK; without it, S_IFCHR
   * @throws {ContinueError} if the rules cannot be found out
   */
  deviceRules(dev: Dev, type?: number): DeviceRules
  /**
   * Tells whether the rules of the control groups in which the container was handed over deny every device of a type
   * that they do not name. It could make groups below these that name devices.
   *
   * @throws {ContinueError} if the rules cannot be found out
   */
  deniesOtherDevices(type: number): boolean
  /** Returns why a device node in this directory could not be opened; undefined if it could. */
  devicesBarred(dir: Handle, name: PathBytes): NodevReason | undefined
  /**
   * Tells whether the container's own control groups must be charged for a file that is made in this directory, or for
   * so many bytes that a file gets: the kernel keeps them in memory, and this container has had much already for which
   * we were charged. Counts what is new.
   */
  mustBeCharged(file: Handle, bytes?: number): boolean
  /** Tells whether the file system of a file was mounted inside the container. */
  mountedInside(file: Handle): boolean
  /** Returns what the caller would open as the source of a mount, without opening it. */
  sourceKind(node: Handle, writable: boolean): SourceKind
  readonly mounts: Mounts
  /** Returns the host's number of an id of the caller's container; undefined if the id is not mapped. */
  hostId(kind: 'uid' | 'gid', id: number): number | undefined
  readonly fuse: Fuse
  /** Mounts a device node of ours, with these attributes, on a file in the caller's mount namespace. */
  mountNode(node: NodeLike, target: Handle): void
  /** The caller's cgroups, and the BPF programs with their device rules. */
  readonly devicePrograms: DevicePrograms
  /** The note of the previous engine, if it had begun to act for this call; else 0. */
  readonly noted: bigint
  /**
   * Whether a signal may cancel the call, and the caller make it again: without SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
   */
  readonly mayComeAgain: boolean
  /** Notes in the journal what the act is about to do, so that `Verb.recover` of the next engine can look for it. */
  note(what: bigint): void
  /**
   * Runs `action` as the caller with exactly one step's capabilities, after a last check that the call still waits.
   *
   * @param own the capabilities of the caller which are added: a combination of `OWN`
   * @throws {Error} if the act does not declare the step
   */
  act<T>(step: Step, action: () => T, own?: number): T
  /** Does the same for an action that changes nothing, without the check that the call still waits. */
  look<T>(step: Step, action: () => T, own?: number): T
}
