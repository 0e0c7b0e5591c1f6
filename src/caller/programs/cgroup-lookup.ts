import { errnos } from '../../abi/errno.ts'
import { O_PATH, O_RDONLY } from '../../abi/fcntl.ts'
import { fileType, S_IFDIR } from '../../abi/stat.ts'
import type { NoGroup } from '../../calls/device-programs.ts'
import type { ReasonCode } from '../../calls/reasons.ts'
import { openGroup } from '../../kernel/cgroup.ts'
import { isErrno, orFalse, orUndefined, SyscallError } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { type Identity, openat, read, statx } from '../../kernel/files.ts'
import { parentNamespace } from '../../kernel/pidfd.ts'
import { parentIn } from '../../kernel/process.ts'
import { sleepSync } from '../../shared/words.ts'

const PARENT = Buffer.from('..\0')
const PROCS = Buffer.from('cgroup.procs\0')
/** Maximum depth of a cgroup. Each level costs us a descriptor during the call, and the kernel itself sets no limit. */
const DEPTH_LIMIT = 128
/** Limit of a walk to the parents of a user namespace, which nest 32 deep at most (linux/kernel/user_namespace.c). */
const USERNS_LIMIT = 33
/** Maximum size in bytes of a `cgroup.procs` that is read; in a longer list we cannot tell whose the processes are. */
const PROCS_LIMIT = 64 * 1024
/** Number of processes that are looked at without announcing a long wait; more take milliseconds. */
const FEW = 64

/** Milliseconds between two looks at a cgroup. */
const LOOK_MS = 10

const isSame = (one: Identity, other: Identity): boolean => one.dev === other.dev && one.ino === other.ino

/** A cgroup and its ancestors: `above` leads from its parent to the root of the mount. */
export interface Located {
  readonly group: Fd
  readonly above: readonly Fd[]
}

/**
 * Finds the caller's cgroup by its file system and id, so that it does not matter through which mount the caller sees
 * it.
 *
 * @param home the container's cgroup, below which the cgroup must be
 * @param candidate a handle of what the caller's descriptor names
 * @param own keeps an opened descriptor until the call is over
 */
export function locate(home: Handle, candidate: Handle, own: (fd: Fd) => Fd): Located | NoGroup {
  const homeId = statx(home.raw)
  const { dev, ino, mode } = identifyAny(candidate) ?? NO_IDENTITY
  if (dev !== homeId.dev || fileType(mode) !== S_IFDIR) return 'notCgroup'
  if (ino === homeId.ino) return 'ownCgroup'
  const group = reopen(home, ino)
  if (!group) return 'removedCgroup'
  own(group)
  const above = ancestors(group, own)
  return above.some((fd) => isSame(statx(fd.raw), homeId)) ? { group, above } : 'outsideCgroup'
}

/** Opens a cgroup by its id. @returns undefined if it was removed, which a descriptor or link of it may outlive */
export const reopen = (home: Handle, id: bigint): Fd | undefined => orUndefined(['ESTALE'], () => openGroup(home, id))

const NO_IDENTITY = { dev: -1n, ino: 0n, mode: 0 } as unknown as Identity

/** Returns the identity of a file; undefined if its file system refuses statx(2), as no cgroup file system does. */
const identifyAny = (handle: Handle): Identity | undefined => orUndefined('any', () => statx(handle.raw))

/** Opens all ancestors of a cgroup, up to the root of the mount. */
function ancestors(group: Fd, own: (fd: Fd) => Fd): readonly Fd[] {
  const above: Fd[] = []
  for (let current = group; above.length < DEPTH_LIMIT; ) {
    const parent = own(openat(current.raw, PARENT, O_PATH))
    // The root of a mount namespace is its own parent; the parent of a mount's root is on another file system.
    const [self, parentId] = [statx(current.raw), statx(parent.raw)]
    if (isSame(self, parentId) || self.dev !== parentId.dev) return above
    above.push(parent)
    current = parent
  }
  throw new SyscallError('openat', errnos.ELOOP as SyscallError['errno'])
}

/** Returns why a container may attach no program, judged by the cgroup `home` into which its init was put. */
export function cgroupProblem(home: Handle | undefined): 'noCgroup' | 'rootCgroup' | undefined {
  if (!home) return 'noCgroup'
  using parent = openat(home.raw, PARENT, O_PATH)
  const [self, parentId] = [statx(home.raw), statx(parent.raw)]
  return isSame(self, parentId) || self.dev !== parentId.dev ? 'rootCgroup' : undefined
}

/**
 * Repeats `look` until it finds no foreign process, `looks` times at most: a process that joins the cgroup in order
 * to enter the container (a runtime's exec) is foreign for a moment only.
 *
 * @returns the result of the last look
 */
export function lastingForeignProcesses(
  looks: number,
  mayBlock: () => void,
  look: () => ReasonCode | undefined,
): ReasonCode | undefined {
  let found = look()
  for (let more = looks - 1; found === 'sharedCgroup' && more > 0; more--) {
    mayBlock()
    sleepSync(LOOK_MS)
    found = look()
  }
  return found
}

const text = Buffer.alloc(PROCS_LIMIT)

/** Reads a file into `text`, of which the kernel returns one page per read. @returns the number of bytes */
function fill(file: Handle): number {
  let length = 0
  for (let more = 1; more > 0 && length < PROCS_LIMIT; length += more) more = read(file, text.subarray(length))
  return length
}

/**
 * Tells whether a cgroup holds processes that are not in the user namespace `userns` or a descendant of it. Children
 * of the engine do not count: a mounter, or a probe of device rules, joins the container's cgroup for a moment.
 *
 * @param proc the host's procfs
 * @param mayTakeLong called before more than FEW processes are looked at
 * @returns the reason code; undefined if there is no foreign process
 */
export function foreignProcesses(
  group: Handle,
  userns: bigint,
  proc: Handle,
  mayTakeLong: () => void,
): ReasonCode | undefined {
  using procs = openat(group.raw, PROCS, O_RDONLY)
  const length = fill(procs)
  if (length === PROCS_LIMIT) return 'crowdedCgroup'
  const pids = text.toString('latin1', 0, length).split('\n').slice(0, -1)
  if (pids.length > FEW) mayTakeLong()
  return pids.every((pid) => isWithin(proc, pid, userns) || isChild(proc, pid)) ? undefined : 'sharedCgroup'
}

/** @param pid "0" for a process outside of our pid namespace, which counts as foreign */
function isWithin(proc: Handle, pid: string, userns: bigint): boolean {
  try {
    let namespace: Fd | undefined = openat(proc.raw, Buffer.from(`${pid}/ns/user\0`), O_RDONLY)
    for (let depth = 0; namespace && depth < USERNS_LIMIT; depth++) {
      using held: Fd = namespace
      if (statx(held.raw).ino === userns) return true
      namespace = parentNamespace(held)
    }
    namespace?.[Symbol.dispose]()
    return false
  } catch (error) {
    // ENOENT: the process has ended.
    return pid !== '0' && isErrno(error, 'ENOENT')
  }
}

/** Tells whether the engine started a process. No process of a container can have the engine as its parent. */
const isChild = (proc: Handle, pid: string): boolean =>
  orFalse('any', () => parentIn(proc.raw, Buffer.from(`${pid}/stat\0`)) === process.pid)
