import type { Caller } from '../calls/caller.ts'
import type { Told } from '../calls/context.ts'
import { type Description, HUGETLBFS, type Manner } from '../calls/mounts.ts'
import type { Policy } from '../policy/policy.ts'
import { withHostIds } from './hugetlbfs.ts'
import { isWritable } from './mount-options.ts'
import { sourceOf } from './mount-source.ts'

/** What a context of fsopen(2) was told, as the file system is to be made. */
export function describe({ type, parameters: told }: Told, exclusive: boolean, caller: Caller): Description {
  const parameters = type === HUGETLBFS ? withHostIds(caller, told) : told
  const source = parameters.find(([key]) => key === 'source')?.[1]
  return { type, parameters, exclusive, source: sourceOf(caller, source, isWritable(parameters)) }
}

export const mannerOf = (type: string, { nodev, shift }: NonNullable<Policy['mount']>): Manner => ({
  nodev,
  shift: shift && type !== HUGETLBFS,
})
