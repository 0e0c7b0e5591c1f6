import type { Errno, PathBytes } from '../abi/brand.ts'
import type { Handle } from '../kernel/handle.ts'

/** A process of a container, as `process` of the OCI runtime specification has it, without what it shall run. */
export type ProcessSpec = Readonly<Record<string, unknown>>

/** What is needed to start a FUSE program as the caller would, found out before anything is done. */
export interface Readiness {
  /** Where the program is for the caller. */
  readonly program: string
  readonly process: ProcessSpec
}

/** A mount by a FUSE program. */
export interface FuseMount extends Readiness {
  /** Of the program; bytes of the caller are Latin-1 here. */
  readonly args: readonly string[]
  readonly target: PathBytes
  /** The caller's mount namespace, which is that of its container. */
  readonly namespace: Handle
  /** MOUNT_ATTR_* that hold also if the program does not care for its options. */
  readonly attributes: bigint
  /** What mount(2) says if the program fails. */
  readonly otherwise: Errno
}

/** FUSE programs of the container's own, which its runtime starts in it: never one of the host's. */
export interface Fuse {
  /**
   * Can a program be started that has all that the caller has, and serve?
   *
   * @param program a name for the PATH of the container, or a path in it
   * @throws {ContinueError} that says why not
   */
  ready(program: string): Readiness
  /**
   * Starts the program, and waits until something is mounted on the target.
   *
   * @throws {Refused} if that does not come about; the program is ended then @throws {ContinueError} if the caller is gone
   */
  mount(mount: FuseMount): void
  /** Has the program, which an engine had started that ended meanwhile, mounted? @param note what that engine has noted */
  mounted(mount: FuseMount, note: bigint): boolean
}

/** What a container's runtime is asked with, to start a program in a container. */
export interface Exec {
  /** The runtime's path, and its options before the command. */
  readonly program: string
  readonly options: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Of the container: what it was started with. */
  readonly process: {
    readonly env: readonly string[]
    readonly apparmorProfile?: string | undefined
    readonly selinuxLabel?: string | undefined
  }
  /** How many seccomp filters it was started with. */
  readonly filters: number
}
