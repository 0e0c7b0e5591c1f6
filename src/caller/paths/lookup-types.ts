import type { HostId, PathBytes, Tid } from '../../abi/brand.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import type { ProcStatus } from '../../kernel/procfs/status.ts'
import type { Container } from '../identity/container.ts'
import type { ThreadIdentity } from '../identity/thread-identity.ts'

const SLASH = 0x2f
const DOT = Uint8Array.of(0x2e, 0) as PathBytes

/**
 * Splits a path before its last component, as the kernel does for calls that create a file (`LOOKUP_PARENT`). The
 * name keeps its trailing slashes, since the kernel answers differently to them (ENOENT). A path of slashes only gets
 * the name "." (EEXIST either way).
 *
 * @param path NUL-terminated, not empty
 * @param buffer memory that holds the parent until the next call
 * @see linux/fs/namei.c filename_create()
 */
export function splitParent(
  path: PathBytes,
  buffer: Uint8Array,
): { readonly parent: PathBytes; readonly name: PathBytes } {
  const length = path.length - 1
  let end = length
  while (end > 0 && path[end - 1] === SLASH) end--
  if (end === 0) return { parent: path, name: DOT }
  let start = end
  while (start > 0 && path[start - 1] !== SLASH) start--
  return { parent: start === 0 ? DOT : terminated(path, start, buffer), name: path.subarray(start) as PathBytes }
}

/** Tells whether the path has a component `..`. */
export function containsDotDot(path: PathBytes): boolean {
  for (let at = path.indexOf(DOT[0]!); at >= 0; at = path.indexOf(DOT[0]!, at + 1)) {
    const next = path[at + 2]
    const whole = (at === 0 || path[at - 1] === SLASH) && (next === 0 || next === SLASH)
    if (whole && path[at + 1] === DOT[0]) return true
  }
  return false
}

export const isAbsolute = (path: PathBytes): boolean => path[0] === SLASH

/**
 * Copies the first `length` bytes of a path into a buffer that is reused: koffi converts a new array so slowly that
 * it would cost more than everything else about a path.
 */
export function copyPath(bytes: Uint8Array, length: number, buffer: Uint8Array): PathBytes {
  for (let at = 0; at < length; at++) buffer[at] = bytes[at]!
  return buffer.subarray(0, length) as PathBytes
}

function terminated(bytes: Uint8Array, length: number, buffer: Uint8Array): PathBytes {
  const copy = copyPath(bytes, length + 1, buffer)
  copy[length] = 0
  return copy
}

/** Where a lookup starts, and for which caller it is. */
export interface LookupStart {
  /** Returns the caller's root directory, opened when it is needed. */
  root(): Handle
  /** Makes the caller's root directory the root of the calling thread, which keeps another root until then. */
  stand(): void
  /** The directory from which the path starts: the root if the path is absolute. */
  readonly base: Handle
  /** Our own mount of the host's procfs, on which no container can mount anything. */
  readonly proc: Handle
  /** The caller's thread and process number in `proc`. */
  readonly numbers: readonly [tid: number, tgid: number]
  /** The caller's fsuid, as a number of the looking thread's user namespace. */
  readonly fsuid: HostId
  /** Returns the directory of the caller's process in `proc`. */
  process(): Handle
  /**
   * Runs `action` with the right to follow links of the caller's process in procfs, which the caller itself always
   * may.
   */
  looking<T>(action: () => T): T
  /**
   * True if the caller has CAP_SYS_PTRACE in the container's user namespace; otherwise links of other tasks are not
   * followed.
   */
  readonly isPtracer: boolean
  /**
   * Opens the directory in `proc` of another task of the container. Only a walker has this method, since it has
   * exactly the caller's rights: the kernel alone can decide whether a task may be inspected (linux/kernel/ptrace.c
   * __ptrace_may_access() compares the owner of its memory), and it would let an engine thread inspect any task.
   *
   * @param number returns the task's number in `proc`
   */
  other?(number: () => Tid): Fd
}

/**
 * Which object a lookup may end at:
 *
 *   directory    a directory
 *   object       any object; a symbolic link at the end is followed
 *   link         any object; a symbolic link at the end is the result itself
 *   outsideProc  an object that every process finds under the same path: neither the object nor a link on the way
 *                is in procfs
 */
export type LookupKind = 'directory' | 'object' | 'link' | 'outsideProc'

/** A path and the kind of object that is wanted. */
export interface LookupRequest {
  readonly path: PathBytes
  readonly wanted: LookupKind
}

/** What a thread needs for lookups; it is made once per thread. */
export interface LookupServices {
  readonly identity: ThreadIdentity
  /** The host's /proc. */
  readonly proc: Handle
  /** Called before an operation that may block for long. */
  readonly mayBlock: () => void
  /** Lets the container's walker look a path up. @throws {ContinueError} if no walker answers */
  readonly walk: (container: Container, start: LookupStart, status: ProcStatus, goal: LookupRequest) => Fd
}
