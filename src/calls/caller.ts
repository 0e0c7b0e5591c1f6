import type { Dev, HostId, Mode, PathBytes, Tid } from '../abi/brand.ts'
import type { Cap } from '../abi/capability.ts'
import type { Handle } from '../kernel/handle.ts'
import type { DevicePrograms } from './device-programs.ts'
import type { Fuse } from './fuse.ts'
import type { Mounts } from './mounts.ts'
import type { Step } from './steps.ts'

/** The six registers of a call; each is read as the kernel reads it. */
export interface Registers {
  /** `int`: the low 32 bits, signed. */
  int(index: number): number
  /** `unsigned int`, `mode_t`: the low 32 bits. */
  uint(index: number): number
  /** A pointer or a `long`: all bits that the architecture has. */
  pointer(index: number): bigint
}

/** Why a device node on some file system could not be opened, and whether one of ours can be mounted there instead. */
export interface NodevReason {
  readonly why: 'nodevMount' | 'containerSuperblock'
  readonly mountable: boolean
}

/** What a device node of ours shall look like. */
export interface NodeLike {
  readonly mode: Mode
  readonly dev: Dev
  readonly gid: HostId
}

/** A task that no other one can be mistaken for: as long as its descriptor says that it keeps its number, that is its own. */
export interface Task {
  /** A process or a thread, in our pid namespace. */
  readonly tid: Tid
  readonly pidfd: Handle
}

/** Everything that may be asked about the thread that made the call. Reading and opening only. */
export interface Caller {
  readonly tid: Tid
  /** The architecture of the call: how long and size_t are laid out in memory. */
  readonly bits: 32 | 64
  /** Copies `length` bytes, 64 KiB at most. @throws {ContinueError} if the kernel could not read them all either */
  bytes(at: bigint, length: number): Uint8Array
  /** What sysinfo(2) shall report to it, in its layout; it holds until the next call is served. */
  systemInfo(): Uint8Array
  /** Copies a path from the caller's memory. @throws {ContinueError} if the kernel could not read it either */
  path(at: bigint): PathBytes
  /**
   * Copies a string as Latin-1; undefined for a null pointer.
   *
   * @param limit with its NUL
   * @throws {ContinueError} if the kernel could not read it either, or if it is longer
   */
  string(at: bigint, limit?: number): string | undefined
  /** Copies the options of mount(2) as Latin-1; undefined for a null pointer. */
  options(at: bigint): string | undefined
  /** Has it this capability over one inode: is that held, and are the owner and the group mapped in its user namespace? */
  commands(inode: Handle, cap: Cap): boolean
  /** Has the caller this capability in its own user namespace? */
  holds(cap: Cap): boolean
  /** Is it in the container's initial user namespace, where a capability counts? */
  readonly inInitialUserns: boolean
  /**
   * Resolves all but the last component as the caller.
   *
   * @returns the directory, and the last component with its trailing slashes
   * @throws {ContinueError} if it does not resolve
   */
  parent(dirfd: number, path: PathBytes): { readonly dir: Handle; readonly name: PathBytes }
  /**
   * Resolves a whole path as the caller, to a handle of what is there: nothing is opened, whatever it is.
   *
   * @param follow a symbolic link at the end
   * @throws {ContinueError} if it does not resolve
   */
  object(dirfd: number, path: PathBytes, follow: boolean): Handle
  /** A handle of what a descriptor of the caller is open for, or of its working directory. @throws {ContinueError} if it is not open */
  descriptor(fd: number): Handle
  /** The directory in which handles of ours have names, for calls that take none; see `DeviceNames`. */
  readonly descriptors: Handle
  /**
   * The task of the container that the caller means by a number of its own pid namespace; 0 is itself.
   *
   * @throws {ContinueError} if there is none
   */
  task(pid: number): Task
  /**
   * What do the device rules of its control groups allow?
   *
   * @throws {ContinueError} if that cannot be found out
   */
  deviceRules(dev: Dev): { readonly mknod: boolean; readonly open: boolean }
  /**
   * Sees to it that nothing in its container can open a device, whatever node there may be of it, if need be by rules of
   * ours: they only forbid, so it is no act.
   *
   * @returns false if it can be opened all the same
   * @throws {ContinueError} if that cannot be found out
   */
  barOpening(dev: Dev): boolean
  /** Could a device node in this directory be opened? undefined: yes, else why not. */
  devicesBarred(dir: Handle, name: PathBytes): NodevReason | undefined
  readonly mounts: Mounts
  /** The host's number of an id of its container. */
  hostId(kind: 'uid' | 'gid', id: number): number | undefined
  readonly fuse: Fuse
  /** Mounts a device node of ours, with these attributes, on a file in the caller's mount namespace. */
  mountNode(node: NodeLike, target: Handle): void
  /** Its cgroups and the programs that rule devices there. */
  readonly devicePrograms: DevicePrograms
  /** What was noted for this call by an engine that had begun with it, and ended; 0 for any other call. */
  readonly noted: bigint
  /** Notes what the act is about to do, by which `Verb.found` knows it again. */
  note(what: bigint): void
  /**
   * Runs `action` as the caller with exactly the capabilities of one step, after a last look that the call still waits.
   *
   * @param own what is added of the caller's own: a combination of `OWN`
   * @throws {Error} if the act does not declare the step
   */
  act<T>(step: Step, action: () => T, own?: number): T
  /** The same for what changes nothing: also when the call does not wait any more. */
  look<T>(step: Step, action: () => T, own?: number): T
}
