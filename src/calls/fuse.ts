import type { Errno, PathBytes } from '../abi/brand.ts'
import type { Handle } from '../kernel/fd.ts'

/** The `process` object of the OCI runtime specification, without `args`. */
export type ProcessSpec = Readonly<Record<string, unknown>>

/** What is needed to start a FUSE program as the caller would start it; found out before anything is done. */
export interface Readiness {
  /** The program's path, as the caller sees it. */
  readonly program: string
  readonly process: ProcessSpec
}

export interface FuseMount extends Readiness {
  /** The program's arguments; bytes of the caller are Latin-1 here. */
  readonly args: readonly string[]
  readonly target: PathBytes
  /** The caller's mount namespace, which is that of its container. */
  readonly namespace: Handle
  /** MOUNT_ATTR_* that are set on the mount, since the program may ignore its options. */
  readonly attributes: bigint
  /** The errno of mount(2) if the program fails. */
  readonly otherwise: Errno
}

/** Mounts by FUSE programs of the container's image, which its runtime starts in it; never by a program of the host. */
export interface Fuse {
  /**
   * Checks that a program can be started with the caller's ids, namespaces and limits, and can serve FUSE.
   *
   * @param program a name to look up in the container's PATH, or a path in the container
   * @throws {ContinueError} with the reason, if it cannot
   */
  ready(program: string): Readiness
  /**
   * Starts the program, and waits until a file system is mounted on the target.
   *
   * @throws {Refused} if none is mounted; the program is killed then
   * @throws {ContinueError} if the caller is gone
   */
  mount(mount: FuseMount): void
  /** Returns whether a program that the previous engine started has mounted. @param note the note of that engine */
  mounted(mount: FuseMount, note: bigint): boolean
}

/** How to ask a container's runtime to start a program in the container. */
export interface Exec {
  /** The runtime's path, and its options before the command. */
  readonly program: string
  readonly options: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** What the container's init was started with. */
  readonly process: {
    readonly env: readonly string[]
    readonly apparmorProfile?: string | undefined
    readonly selinuxLabel?: string | undefined
  }
  /** The number of seccomp filters that the container's init was started with. */
  readonly filters: number
}
