import type { Attached, ProgramLoad } from '../kernel/bpf.ts'
import type { Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'
import type { ReasonCode } from './reason.ts'

/** A device program that the container has loaded through us. Its number may be used again, the pair never. */
export interface OwnProgram {
  readonly id: number
  /** Nanoseconds since the start of the machine. */
  readonly loaded: bigint
}

/** A cgroup below the one in which the container's init was put, and all above it, the nearest first. */
export interface Group {
  readonly group: Handle
  readonly above: readonly Handle[]
}

/** Why a descriptor names no cgroup for a program of the container. */
export type NoGroup = 'notOpen' | 'notCgroup' | 'removedCgroup' | 'ownCgroup' | 'outsideCgroup'

/** What may be asked about cgroups and programs for the thread that made the call. */
export interface DevicePrograms {
  /** Runs a load, one at a time for each container: the verifier may take most of a second, with a log more than ten. */
  loading<T>(load: () => T): T
  /** Why nothing may be attached for this container: its cgroup is not its own. */
  readonly barred: ReasonCode | undefined
  /** The cgroup that a descriptor of the caller names. */
  group(fd: number): Group | NoGroup
  /** The program for which a descriptor of the caller stands: notOpen, or notOurs if for none. */
  named(fd: number): OwnProgram | 'notOpen' | 'notOurs'
  /** The program with this number, if the container has loaded it. */
  numbered(id: number): OwnProgram | undefined
  /** What is attached to a cgroup itself. */
  attached(group: Handle): Attached
  /** Would a program below one of these take its programs out of force? */
  loosens(above: readonly Handle[]): boolean
  /** Opens a program for an act. @throws {SyscallError} ENOENT if it is gone */
  open(program: OwnProgram): Fd
  /**
   * Keeps a program for the container, which gets a descriptor that stands for it and is of no use but with us: whoever has
   * one of the program itself may attach it to any cgroup that he can open, without any capability.
   *
   * @returns undefined if it has too many
   */
  standIn(program: Fd): Fd | undefined
  /** The link that a descriptor of the caller names, if it attaches a program of the container below its cgroup. */
  link(fd: number): Handle | undefined
}

/** Where the caller's memory takes what the kernel's own call would write there. */
interface Listing {
  readonly attachFlagsAt: bigint
  readonly countAt: bigint
  /** 0 for no memory. */
  readonly idsAt: bigint
  readonly flagsOfEachAt: bigint
  readonly revisionAt?: bigint
  /** How many there is room for. */
  readonly room: number
}

/** The acts on device programs. */
export interface ProgramVerbs {
  readonly loadProgram: {
    readonly load: Omit<ProgramLoad, 'log'>
    /** Where the log of the verifier goes, and for how much of it there is room. */
    readonly log?: { readonly at: bigint; readonly size: number }
    readonly logSizeAt?: bigint
  }
  readonly attachProgram: Group & {
    readonly program: OwnProgram
    readonly flags: number
    readonly replace?: OwnProgram
  }
  readonly detachProgram: { readonly group: Handle; readonly program: OwnProgram }
  readonly listPrograms: Listing & { readonly group: Handle }
  readonly openProgram: { readonly program: OwnProgram }
  readonly describeProgram: {
    readonly program: OwnProgram
    readonly infoAt: bigint
    readonly length: number
    readonly lengthAt: bigint
  }
  readonly linkProgram: Group & { readonly program: OwnProgram }
  readonly updateLink: {
    readonly link: Handle
    readonly program: OwnProgram
    readonly flags: number
    readonly old?: OwnProgram
  }
  readonly detachLink: { readonly link: Handle }
}
