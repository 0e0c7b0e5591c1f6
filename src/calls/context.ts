import type { Tid } from '../abi/brand.ts'
import type { Fd, Handle } from '../kernel/fd.ts'

/**
 * The notes of acts that give the caller a descriptor (see `Caller.note`): the next engine knows by them whether the
 * caller has it already. The upper two bits say what the rest names; no other note of such an act has one of them.
 */
const KEPT = 1n << 62n
const STAND_IN = 1n << 63n
const WORD = 0xffff_ffffn

/** A kept context or mount: which entry of the store it is, and how often that was made new. */
export interface KeptName {
  readonly index: number
  readonly serial: number
}

export const noteOfKept = ({ index, serial }: KeptName): bigint =>
  KEPT | (BigInt(index) << 32n) | (BigInt(serial) & WORD)

export const noteOfStandIn = (inode: bigint): bigint => STAND_IN | inode

/** What a note names; undefined for a note of another kind. */
export function namedBy(note: bigint): { readonly kept: KeptName } | { readonly standIn: bigint } | undefined {
  if ((note & STAND_IN) !== 0n) return { standIn: note & ~STAND_IN }
  if ((note & KEPT) === 0n) return undefined
  return { kept: { index: Number((note & ~KEPT) >> 32n), serial: Number(note & WORD) } }
}

/** A parameter of fsconfig(2): a flag (key only) or a string. Bytes of the container are Latin-1 here. */
export type Parameter = readonly [key: string, value?: string]

/**
 * A context or a mount which we keep for a container between its calls.
 *
 * Invariant: it is locked for the call that has found it, until that call disposes it.
 */
export interface StoredFsContext extends Disposable {
  /** Our handle of the file for which the container's descriptor is open. */
  readonly handle: Handle
  readonly name: KeptName
  /** Lets the entry end when this call disposes it. */
  endAfterCall(): void
  /** Lets the entry end as soon as no call has it locked: this one, or a later one. */
  endOnceUnlocked(): void
}

/** The parameters of a file system that is to be made. */
export interface FsParameters {
  readonly type: string
  readonly parameters: readonly Parameter[]
}

/** The parameters of a mount, and the context or mount from which it is made: that is over once the caller has it. */
export interface Told extends FsParameters {
  readonly name: KeptName
}

/**
 * A context that fsopen(2) or fspick(2) gave to the caller's container, and the parameters that fsconfig(2) has set so
 * far.
 */
export interface Context extends StoredFsContext, FsParameters {
  /** The context of ours in which the file system was made, for fsmount(2); undefined before that. */
  readonly made: Handle | undefined
  /** The context of ours in which a file system that stands is changed; undefined for one of fsopen(2). */
  readonly picked: Handle | undefined
  /** Adds a parameter. @returns false if there would be more than a page of parameters */
  add(parameter: Parameter): boolean
  /**
   * Marks that the parameters are in force. They are kept, for the call may come again that a signal has cancelled;
   * the next one that is added takes their place.
   */
  apply(): void
  /** Keeps the context of ours in which the file system was made. */
  keep(made: Fd): void
  /** Marks that the file system could not be made: as in the kernel, the context is of no more use then. */
  fail(): void
  readonly hasFailed: boolean
  /** Marks that the file system was mounted, and that the mount is on its way to the caller. */
  use(): void
  readonly isUsed: boolean
}

/** How a mount is prepared, whichever call makes it. */
export interface MountManner {
  /** Whether the mount is idmapped with the container's user namespace. */
  readonly shift: boolean
  /** Whether the mount gets a locked nodev, which the container cannot take off. */
  readonly nodev: boolean
}

/** A mount which fsmount(2) gave to the caller's container and which is not attached yet, with its parameters. */
export interface DetachedMount extends StoredFsContext, FsParameters {
  /** A copy of the mount without locked attributes; only such a copy can be changed. undefined if none was needed. */
  readonly unlockedCopy: Handle | undefined
  /** How it was made, by the policy of that moment. */
  readonly manner: MountManner
}

/** The process that has a descriptor, and its number, which is not known before the call is answered. */
interface Holder {
  readonly process: Tid
  readonly fd?: number
}

/** The descriptors of a new mount, for a `DetachedMount`. */
export interface NewMount {
  /** The mount's root directory, of which the caller gets a descriptor as well. */
  readonly root: Fd
  readonly tree: Fd
  readonly unlockedCopy: Fd | undefined
  readonly told: Told
  readonly manner: MountManner
}

/** What was kept for a caller that is to get a descriptor of it. */
export interface Kept {
  readonly name: KeptName
  /** Takes the descriptor's number in the caller's process; undefined if it did not get there: then nothing is kept. */
  readonly tell: (fd: number | undefined) => void
}

/** The container for which something is kept, by its serial: its index is given to others after it. */
export interface Owner {
  readonly index: number
  readonly serial: number
}

/** Keeps contexts and mounts of all containers between calls. */
export interface Keeping {
  /**
   * Keeps a context; if the container has too many, its oldest entry is dropped.
   *
   * @param opened owned here from now on
   * @param process the process that gets the descriptor
   * @returns undefined if there is no room, and then `opened` is not owned here
   */
  addContext(container: Owner, opened: Fd, type: string, process: Tid): Kept | undefined
  /**
   * Does the same as `addContext` for a context in which a file system is changed.
   *
   * @param picked of the same file system: `given` is what the caller gets, `ours` is owned here from now on
   */
  addPicked(
    container: Owner,
    picked: { readonly type: string; readonly given: Fd; readonly ours: Fd },
    process: Tid,
  ): Kept | undefined
  /** Does the same as `addContext` for a mount that is not attached yet. */
  addMount(container: Owner, mount: NewMount, process: Tid): Kept | undefined
  /**
   * Has `search` look for the descriptor of what was kept under this name, and keeps its number.
   *
   * @returns what `search` returns; undefined also if nothing is kept under this name any more
   */
  given(
    container: Owner,
    name: KeptName,
    search: (given: Handle, process: Tid) => number | undefined,
  ): number | undefined
  /**
   * Finds the context of a container for which `isIt` returns true.
   *
   * @returns the context, locked until it is disposed; 'busy' if another call holds its lock for too long
   */
  findContext(container: Owner, isIt: (opened: Handle) => boolean): Context | 'busy' | undefined
  findMount(container: Owner, isIt: (tree: Handle) => boolean): DetachedMount | 'busy' | undefined
  /** Returns whether anything of this container is kept. */
  has(container: Owner): boolean
  /** Drops entries that no process holds any more, by `isHeld`. @param container undefined: of all containers */
  tidy(container: Owner | undefined, isHeld: IsHeld): void
}

/** Returns whether the process still has a descriptor of the same open file as our `given`. */
export type IsHeld = (given: Handle, holder: Holder) => boolean
