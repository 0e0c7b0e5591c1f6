import type { Dev, Errno } from '../abi/brand.ts'
import type { Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'
import type { Context, DetachedMount, FsParameters, Parameter } from './context.ts'

/** What a source leads to for the caller: a block device, something else, or nothing that it may use. */
export type SourceKind =
  | { readonly dev: Dev; readonly writable: boolean }
  | { readonly other: true }
  | { readonly errno: Errno }

/** Bytes of a container are Latin-1 here, without the NUL. */
export interface Source {
  /** What the caller wrote; undefined for a null pointer. */
  readonly text?: string
  readonly kind: SourceKind
  /** Of a block device: what was found. */
  readonly node?: Handle
}

/** Of those that the kernel mounts for root of the host only, the one without a device that is served: it has no source. */
export const HUGETLBFS = 'hugetlbfs'

/** How a mount shall be, whatever makes it. */
export interface MountManner {
  /** Idmapped with the container's user namespace. */
  readonly shift: boolean
  /** Nodev, for good. */
  readonly nodev: boolean
}

/** As mount(2) has it. */
export interface MountCall extends MountManner {
  readonly type: string
  readonly source: Source
  readonly flags: bigint
  readonly data?: string
}

/** As fsopen(2) and fsconfig(2) have it. */
export interface SuperblockRequest {
  readonly type: string
  readonly source: Source
  readonly parameters: readonly Parameter[]
  readonly exclusive: boolean
}

/** A descriptor for the caller, and whom to tell its number in the caller's table. */
export interface FdForCaller {
  readonly fd: Handle
  readonly sent: (fd: number) => void
}

/**
 * What can be mounted for a caller, by a process that may hang and that stands in the caller's control groups.
 * All throw {SyscallError} with what the kernel says, {Refused} for what it was not asked for.
 */
export interface Mounts {
  /** The mount namespace of the caller. @throws {ContinueError} if that is not one of its container's own */
  namespace(): Handle
  /** Lets go of what the container has closed: a device would be in use as long as we hold it. */
  tidy(): void
  /** @returns a mount that stands nowhere yet; the caller's to close */
  mount(call: MountCall): Handle
  /** @param isNew as mount(2) does it, not move_mount(2) */
  attach(tree: Handle, place: { readonly target: Handle; readonly namespace: Handle }, isNew: boolean): void
  /** Opens a context that nothing is ever made of, to be given to the caller, and knows it from now on. */
  openContext(type: string): FdForCaller
  /** What the caller's descriptor is open for, if it is such a context; locked until the call is over. */
  context(fd: number): Context | undefined
  /** The mount that the caller's descriptor is in, if `finish` gave it to its container. */
  unplaced(fd: number): DetachedMount | undefined
  /** How it is: MOUNT_ATTR_*. */
  attributes(mount: DetachedMount): bigint
  /** Makes such a mount anew with other attributes. @returns its root directory, to be given to the caller */
  renew(mount: DetachedMount, attributes: bigint): FdForCaller
  /** Makes a file system. @returns the context of ours in which that is; the caller's to close */
  create(description: SuperblockRequest): Fd
  /**
   * Makes a mount of what was made, which stands nowhere yet, and keeps it for a while.
   *
   * @returns its root directory, to be given to the caller
   */
  finish(made: Handle, attributes: bigint, manner: MountManner, told: FsParameters): FdForCaller
}
