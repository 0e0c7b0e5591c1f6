import type { Dev, Errno, Mode, PathBytes } from '../abi/brand.ts'
import type { Fd, Handle } from '../kernel/fd.ts'
import type { Context, DetachedMount, MountManner, Parameter, Told } from './context.ts'

/** What the source's path resolves to for the caller: a block device, another file, or an errno. */
export type SourceKind =
  | { readonly dev: Dev; readonly writable: boolean }
  | { readonly other: true }
  | { readonly errno: Errno }

/** The source of a mount. Bytes of the container are Latin-1 here, without the NUL. */
export interface Source {
  /** The caller's string; undefined for a null pointer. */
  readonly text?: string
  readonly kind: SourceKind
  /** A handle of the block device's node; undefined for any other source. */
  readonly node?: Handle
}

/** The file systems without a block device that are served: their source says nothing, and they hold only memory. */
export const IN_MEMORY: ReadonlySet<string> = new Set(['hugetlbfs', 'tmpfs'])
/** The one that the kernel mounts in any user namespace, too, where no device opens. Ours holds only nodes of ours. */
export const TMPFS = 'tmpfs'
/** The one whose options BPF tokens come from. */
export const BPFFS = 'bpf'

/** The arguments of mount(2). */
export interface MountCall extends MountManner {
  readonly type: string
  readonly source: Source
  readonly flags: bigint
  readonly data?: string
}

/** A file system as fsopen(2) and fsconfig(2) describe it. */
export interface SuperblockRequest {
  readonly type: string
  readonly source: Source
  readonly parameters: readonly Parameter[]
  readonly exclusive: boolean
}

/** The arguments of mount(2) for a file system that stands. */
export interface RemountCall {
  /** The root of a mount. */
  readonly target: Handle
  /** The mount namespace in which it is. */
  readonly namespace: Handle
  readonly flags: bigint
  readonly data?: string
}

export interface NodeRequest {
  readonly dir: Handle
  readonly name: PathBytes
  readonly mode: Mode
  readonly dev: Dev
}

/** A descriptor that the caller gets, and `Effect.sent` of it. */
export interface FdForCaller {
  readonly fd: Handle
  readonly sent: (fd: number | undefined) => void
  /** For `Caller.note`, so that the next engine knows whether the caller has got it. */
  readonly note: bigint
}

/**
 * Mounts for a caller, by a mounter, which may hang and which is in the caller's control groups meanwhile. All methods
 * throw {SyscallError} with the kernel's errno, and {Refused} if the kernel was not asked.
 */
export interface Mounts {
  /** Returns the caller's mount namespace. @throws {ContinueError} if its container does not own that namespace */
  namespace(): Handle
  /** Drops contexts and mounts that the container has closed: while we hold them, their device is in use. */
  tidy(): void
  /** Makes a mount. @returns a handle of the detached mount, which the calling function closes */
  mount(call: MountCall): Handle
  /** Attaches a mount. @param isNew whether the kernel's checks are those of mount(2), else those of move_mount(2) */
  attach(tree: Handle, place: { readonly target: Handle; readonly namespace: Handle }, isNew: boolean): void
  /**
   * Tells whether we made the file system for the caller's container, and it is one that may be changed: a tmpfs. The
   * kernel's own id of it says so, not the path.
   */
  isMade(file: Handle): boolean
  /** Changes a file system, and the mount of it, as mount(2) does. */
  remount(call: RemountCall): void
  /** Makes a device node as the caller, whose control groups are charged for it. @param own a combination of `OWN` */
  makeNode(node: NodeRequest, own: number): void
  /** Sets an attribute for the caller, whose control groups are charged for it; without a value, removes it. */
  changeAttribute(inode: Handle, name: PathBytes, to?: { readonly value: Uint8Array; readonly flags: number }): void
  /** Opens a context of the file system for the caller, and a second one in which it is changed. */
  pick(root: Handle): FdForCaller
  /** Sets parameters in that second context, and changes the file system. */
  reconfigure(picked: Handle, parameters: readonly Parameter[]): void
  /**
   * Opens a context for the caller and keeps a copy, by which it is recognised. Nothing is ever made in this context.
   */
  openContext(type: string): FdForCaller
  /** Returns the context of ours for which the caller's descriptor is open, locked until the call is over. */
  context(fd: number): Context | undefined
  /**
   * Keeps a copy of the context of a bpffs that the container has opened by itself.
   *
   * @throws {ContinueError} if the descriptor is not of such a context
   */
  adopt(fd: number): Context
  /** Sets parameters in such a context, and makes the bpffs there. */
  createBpffs(context: Context, parameters: readonly Parameter[]): void
  /** Returns the mount in which the caller's descriptor is, if `finish` gave that mount to its container. */
  unplaced(fd: number): DetachedMount | undefined
  /** Returns the mount's attributes: MOUNT_ATTR_*. */
  attributes(mount: Pick<DetachedMount, 'handle'>): bigint
  /** Uses up a detached mount of ours. @returns a copy whose attributes are locked; the calling function closes it */
  lock(tree: Handle): Fd
  /** Makes a copy of such a mount with other attributes. @returns its root directory, which the caller gets */
  renew(mount: DetachedMount, attributes: bigint): FdForCaller
  /** Makes a file system. @returns the context of ours in which it was made; the calling function closes it */
  create(description: SuperblockRequest): Fd
  /**
   * Makes a detached mount of the file system that was made, and keeps it until it is attached or dropped.
   *
   * @returns its root directory, which the caller gets
   */
  finish(made: Handle, attributes: bigint, manner: MountManner, told: Told): FdForCaller
}
