import { capabilities, capMask } from '../../abi/capability.ts'
import { type IdExtent, toInside } from '../../abi/id-map.ts'
import { parseLimits } from '../../abi/rlimit.ts'
import type { Exec, ProcessSpec } from '../../calls/fuse.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { statusField, statusMask, statusNumbers } from '../../kernel/procfs/status.ts'

/** What procfs tells of the caller: `/proc/TID/status`, `limits` and `oom_score_adj`. */
export interface ProcTexts {
  readonly status: string
  readonly limits: string
  readonly oomScoreAdj: string
  /** As a path from the root of the container. */
  readonly cwd: string
}

interface Maps {
  readonly uidMap: readonly IdExtent[]
  readonly gidMap: readonly IdExtent[]
}

const SETS = [
  ['bounding', 'CapBnd'],
  ['effective', 'CapEff'],
  ['permitted', 'CapPrm'],
  ['inheritable', 'CapInh'],
  ['ambient', 'CapAmb'],
] as const

/**
 * A process that has what a program would have that the caller itself starts: its ids, groups, capabilities, no_new_privs,
 * umask, limits and working directory. Two things are the container's, as it was started: the environment, since that of the
 * caller is memory that it may fill at will, and the label of the security module, which the caller must have too.
 *
 * @throws {ContinueError} for a caller that has several ids at once or one that its container does not map, or has more seccomp
 * filters than its container: the runtime could not start its like
 */
export function ociProcess(told: ProcTexts, { uidMap, gidMap }: Maps, { process, filters }: Exec): ProcessSpec {
  const { status } = told
  if (Number(statusField(status, 'Seccomp_filters')) !== filters) throw new ContinueError('fuseFilters')
  const { apparmorProfile, selinuxLabel } = process
  return {
    terminal: false,
    user: {
      uid: only(statusNumbers(status, 'Uid'), uidMap),
      gid: only(statusNumbers(status, 'Gid'), gidMap),
      additionalGids: statusNumbers(status, 'Groups').map((gid) => mapped(gidMap, gid)),
      umask: Number.parseInt(statusField(status, 'Umask') ?? '', 8),
    },
    cwd: told.cwd,
    env: process.env,
    capabilities: Object.fromEntries(SETS.map(([name, label]) => [name, capsOf(statusMask(status, label))])),
    noNewPrivileges: statusField(status, 'NoNewPrivs') === '1',
    rlimits: parseLimits(told.limits),
    oomScoreAdj: Number(told.oomScoreAdj),
    ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
    ...(selinuxLabel === undefined ? {} : { selinuxLabel }),
  }
}

/** Real, effective, saved and that for files: all the same. */
function only([id = -1, ...others]: readonly number[], map: readonly IdExtent[]): number {
  if (others.some((other) => other !== id)) throw new ContinueError('fuseIds')
  return mapped(map, id)
}

function mapped(map: readonly IdExtent[], id: number): number {
  const inside = toInside(map, id)
  if (inside === undefined) throw new ContinueError('fuseIds')
  return inside
}

const capsOf = (mask: bigint): readonly string[] =>
  capabilities.filter((cap) => (mask & capMask(cap)) !== 0n).map((cap) => `CAP_${cap}`)

/** JSON with its 64-bit numbers in full: no text of a process holds a NUL. */
export const exactJson = (value: object): string =>
  JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? `\0${part}` : part)).replaceAll(
    /"\\u0000(\d+)"/g,
    '$1',
  )
