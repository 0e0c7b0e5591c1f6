import type { Tid } from '../abi/brand.ts'
import type { Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'

/** What fsconfig(2) sets: a flag, or a string. Bytes as Latin-1. */
export type Parameter = readonly [key: string, value?: string]

/** Something that a container describes or places, and that we keep meanwhile. It is one call's alone until it is disposed. */
export interface StoredFsContext extends Disposable {
  /** Our handle of what the container's descriptor is open for. */
  readonly handle: Handle
  /** Let it go when the call is over: nothing more comes of it. */
  end(): void
  /** Let it go, after the call. */
  drop(): void
}

/** What was told of a file system that is to be made. */
export interface FsParameters {
  readonly type: string
  readonly parameters: readonly Parameter[]
}

/** A context that fsopen(2) gave to the caller's container, and what it was told so far. */
export interface Context extends StoredFsContext, FsParameters {
  /** Of ours: the file system was made in it, and is to be mounted. */
  readonly made: Handle | undefined
  /** @returns false if it has been told too much */
  add(parameter: Parameter): boolean
  /** Keeps the context in which its file system was made. */
  keep(made: Fd): void
  /** It could not be made: as in the kernel nothing can be any more. */
  fail(): void
  readonly hasFailed: boolean
  /** It was mounted, and the mount is on its way to the caller. */
  use(): void
  readonly isUsed: boolean
}

/** A mount that fsmount(2) gave to the caller's container, and that stands nowhere yet; and what its context was told. */
export interface DetachedMount extends StoredFsContext, FsParameters {
  /** A copy that is not locked, if it is: only that one can be changed. */
  readonly free: Handle | undefined
}

/** Where a container has a descriptor; its number is not known before the call is answered. */
interface Holder {
  readonly process: Tid
  readonly fd?: number
}

/** As `DetachedMount` has it. */
export interface NewMount {
  /** A copy of what the caller has: its root directory. */
  readonly root: Fd
  readonly tree: Fd
  readonly free: Fd | undefined
  readonly told: FsParameters
}

/** The things that are kept, of all containers. */
export interface Keeping {
  /**
   * Keeps a context; the oldest of a container makes room.
   *
   * @param opened owned there from now on
   * @param process that will have it
   * @returns what is to be told its number there; undefined if there is no room: `opened` is still the caller's
   */
  addContext(container: number, opened: Fd, type: string, process: Tid): ((fd: number) => void) | undefined
  /** As `addContext`, for a mount that stands nowhere yet. */
  addMount(container: number, mount: NewMount, process: Tid): ((fd: number) => void) | undefined
  /** The context of this container that `isIt`, locked until it is disposed; 'busy' if another call has it for too long. */
  findContext(container: number, isIt: (opened: Handle) => boolean): Context | 'busy' | undefined
  findMount(container: number, isIt: (tree: Handle) => boolean): DetachedMount | 'busy' | undefined
  /** Does it keep anything of this container? */
  has(container: number): boolean
  /** Lets go of what nobody has any more, by `isHeld`. */
  tidy(container: number | undefined, isHeld: IsHeld): void
}

/** Has the process still a descriptor of the file of which `given` is one of ours? */
export type IsHeld = (given: Handle, holder: Holder) => boolean
