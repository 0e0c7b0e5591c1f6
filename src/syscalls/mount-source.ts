import type { Errno, PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import type { Caller } from '../calls/caller.ts'
import type { FsParameters } from '../calls/context.ts'
import { IN_MEMORY, type Source, type SuperblockRequest } from '../calls/mounts.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import { ContinueError } from '../calls/verdict.ts'
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
    const kind = caller.sourceKind(node, writable)
    return { text, ...('dev' in kind ? { node } : {}), kind }
  } catch (error) {
    if (error instanceof ContinueError && LOOKUP_REASONS.has(error.why.code) && error.why.a !== undefined)
      return { text, kind: { errno: error.why.a as Errno } }
    throw error
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
