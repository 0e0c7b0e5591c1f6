import type { Errno, PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD, R_OK, W_OK } from '../abi/fcntl.ts'
import { ST_NODEV } from '../abi/mount.ts'
import { fileType, S_IFBLK } from '../abi/stat.ts'
import type { Caller } from '../calls/caller.ts'
import type { FsParameters } from '../calls/context.ts'
import { IN_MEMORY, type Source, type SuperblockRequest } from '../calls/mounts.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { isErrno } from '../kernel/error.ts'
import type { Handle } from '../kernel/fd.ts'
import { access, deviceOf, fstatfs, statx } from '../kernel/files.ts'
import { isWritable, withHostIds } from './mount-options.ts'

/** Reasons that carry the errno of a lookup by the kernel, or by a walk that follows the kernel's rules. */
const LOOKUP_REASONS: ReadonlySet<ReasonCode> = new Set(['pathNotResolved', 'crossesProc'])

/**
 * Resolves the source as the caller, without opening it, since opening needs the caller's cgroups. A source that
 * leads nowhere is no verdict yet, as file systems without a device ignore it.
 *
 * @param writable whether the file system shall be writable
 */
export function sourceOf(caller: Caller, text: string | undefined, writable: boolean): Source {
  if (text === undefined) return { kind: { errno: errno('EINVAL') } }
  if (text === '') return { text, kind: { errno: errno('ENOENT') } }
  try {
    const node = caller.object(AT_FDCWD, Buffer.from(`${text}\0`, 'latin1') as Uint8Array as PathBytes, true)
    return { text, ...found(caller, node, writable) }
  } catch (error) {
    if (error instanceof ContinueError && LOOKUP_REASONS.has(error.why.code) && error.why.a !== undefined)
      return { text, kind: { errno: error.why.a as Errno } }
    throw error
  }
}

function found(caller: Caller, node: Handle, writable: boolean): Source {
  if (fileType(statx(node.raw).mode) !== S_IFBLK) return { kind: { other: true } }
  // The kernel refuses a device on a nodev mount: linux/fs/namei.c may_open_dev()
  if ((fstatfs(node).flags & ST_NODEV) !== 0) return { kind: { errno: errno('EACCES') } }
  const mode = R_OK | (writable ? W_OK : 0)
  if (!mayOpen(caller, node, mode)) return { kind: { errno: errno('EACCES') } }
  return { node, kind: { dev: deviceOf(node), writable } }
}

/** Tells whether the caller may open the node, by its ids and groups or by its own capability over it. */
function mayOpen(caller: Caller, node: Handle, mode: number): boolean {
  try {
    caller.act(steps.asCaller, () => access(node, mode))
    return true
  } catch (error) {
    if (!isErrno(error, 'EACCES')) throw error
    return caller.commands(node, 'DAC_OVERRIDE')
  }
}

/** Describes the file system of a context by the parameters that were recorded for it. */
export function superblockRequest(
  { type, parameters: recorded }: FsParameters,
  exclusive: boolean,
  caller: Caller,
): SuperblockRequest {
  const parameters = IN_MEMORY.has(type) ? withHostIds(caller, recorded) : recorded
  const source = parameters.find(([key]) => key === 'source')?.[1]
  return { type, parameters, exclusive, source: sourceOf(caller, source, isWritable(parameters)) }
}
