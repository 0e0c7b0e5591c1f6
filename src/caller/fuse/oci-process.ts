import { capabilities, capMask, type IdExtent, toInside } from '../../abi/credentials.ts'
import { parseLimits } from '../../abi/process.ts'
import type { Exec, ProcessSpec } from '../../calls/fuse.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { statusField, statusMask, statusNumbers } from '../../kernel/procfs/status.ts'

/** The texts of `/proc/TID/status`, `limits` and `oom_score_adj` of the caller. */
export interface ProcTexts {
  readonly status: string
  readonly limits: string
  readonly oomScoreAdj: string
  /** The working directory, as a path from the root of the container. */
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
 * Describes a process with what a child of the caller would inherit: ids, groups, capabilities, no_new_privs, umask,
 * limits and working directory. Two properties are taken from the container as it was started: the environment, since
 * the caller's own is memory that it may fill at will, and the label of the security module, which the caller must
 * have too.
 *
 * @throws {ContinueError} if the caller's real, effective, saved and file system ids differ, if the container does
 *   not map them, or if the caller has more seccomp filters than its container: the runtime cannot start such a
 *   process
 */
export function ociProcess(texts: ProcTexts, { uidMap, gidMap }: Maps, { process, filters }: Exec): ProcessSpec {
  const { status } = texts
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
    cwd: texts.cwd,
    env: process.env,
    capabilities: Object.fromEntries(SETS.map(([name, label]) => [name, capsOf(statusMask(status, label))])),
    noNewPrivileges: statusField(status, 'NoNewPrivs') === '1',
    rlimits: parseLimits(texts.limits),
    oomScoreAdj: Number(texts.oomScoreAdj),
    ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
    ...(selinuxLabel === undefined ? {} : { selinuxLabel }),
  }
}

/** Returns the id inside the container; the real, effective, saved and file system ids must be equal. */
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

/**
 * Serializes to JSON with bigints as exact numbers. They are marked by a NUL meanwhile, which no text of a process
 * holds.
 */
export const exactJson = (value: object): string =>
  JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? `\0${part}` : part)).replaceAll(
    /"\\u0000(\d+)"/g,
    '$1',
  )
