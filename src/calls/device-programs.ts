import type { Attached, ProgramLoad } from '../kernel/bpf.ts'
import type { Fd, Handle } from '../kernel/fd.ts'
import type { ReasonCode } from './reasons.ts'

/**
 * A device program that the container has loaded through us. The kernel reuses ids, but never a pair of id and time.
 */
export interface OwnProgram {
  readonly id: number
  /** The time of loading in nanoseconds since boot: bpf_prog_info.load_time. */
  readonly loaded: bigint
}

/** A link that attaches a device program of the container below its cgroup. */
export interface OwnLink {
  readonly id: number
  /** The id of the cgroup; 0 if the link is detached. */
  readonly group: bigint
}

/** A cgroup below the cgroup of the container's init, and all cgroups above it, the nearest first. */
export interface Group {
  readonly group: Handle
  readonly above: readonly Handle[]
}

/** Why a descriptor names no cgroup for a program of the container. */
export type NoGroup = 'notOpen' | 'notCgroup' | 'removedCgroup' | 'ownCgroup' | 'outsideCgroup'

/** What a container gets in the place of a program, and the note by which the next engine knows whether it has it. */
export interface StandIn {
  readonly fd: Fd
  readonly note: bigint
}

/** Answers questions about cgroups and device programs of the thread that made the call. */
export interface DevicePrograms {
  /**
   * Runs `load`, one at a time per container: the verifier may take most of a second, and with a log more than 10 s.
   *
   * @param isShort whether it takes less than a millisecond: then no other thread needs to receive calls meanwhile
   */
  loading<T>(isShort: boolean, load: () => T): T
  /** The reason why nothing may be attached for this container, if its cgroup is not its own. */
  readonly barred: ReasonCode | undefined
  /** Returns the cgroup for which a descriptor of the caller is open. */
  group(fd: number): Group | NoGroup
  /** Returns the program for which a descriptor of the caller is the stand-in; notOurs if it is no stand-in. */
  named(fd: number): OwnProgram | 'notOpen' | 'notOurs'
  /** Returns the program with this id, if the container has loaded it. */
  numbered(id: number): OwnProgram | undefined
  /** Returns what is attached to a cgroup directly. */
  attached(group: Handle): Attached
  /**
   * Returns whether a program in a cgroup below would replace, instead of join, the programs of one of these cgroups.
   */
  loosens(above: readonly Handle[]): boolean
  /** Opens a program for an act. @throws {SyscallError} ENOENT if it is gone */
  open(program: OwnProgram): Fd
  /**
   * Keeps a program for the container, and returns its stand-in, a descriptor that is of use with us only. The
   * container never gets a descriptor of the program itself: its holder could attach the program to any cgroup that
   * it can open, without any capability.
   *
   * @returns undefined if the container has too many programs and links
   */
  standIn(program: Fd): StandIn | undefined
  /** Counts a link for the container, which gets its descriptor. @returns false if the container has too many */
  countLink(link: Fd): boolean
  /** Returns the link for which a descriptor is open, if it attaches a program of the container below its cgroup. */
  link(fd: number): OwnLink | undefined
  /** Opens a link for an act. @throws {ContinueError} if its number is another's by now */
  openLink(link: OwnLink): Fd
}

/** Addresses in the caller's memory for the results that BPF_PROG_QUERY writes. */
interface Listing {
  readonly attachFlagsAt: bigint
  readonly countAt: bigint
  /** 0 if the caller wants no ids. */
  readonly idsAt: bigint
  readonly flagsOfEachAt: bigint
  readonly revisionAt?: bigint
  /** For how many programs there is room. */
  readonly room: number
}

export interface ProgramVerbs {
  readonly loadProgram: {
    readonly load: Omit<ProgramLoad, 'log'>
    /** The address of the buffer for the verifier's log, and its size in bytes. */
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
    readonly link: OwnLink
    readonly program: OwnProgram
    readonly flags: number
    readonly old?: OwnProgram
  }
  readonly detachLink: { readonly link: OwnLink }
}
