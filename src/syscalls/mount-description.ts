import type { Caller } from '../calls/caller.ts'
import type { FsParameters } from '../calls/context.ts'
import { IN_MEMORY, type SuperblockRequest } from '../calls/mounts.ts'
import { withHostIds } from './memory-options.ts'
import { isWritable } from './mount-options.ts'
import { sourceOf } from './mount-source.ts'

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
