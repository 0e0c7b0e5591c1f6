import { errnos } from '../../abi/errno.ts'
import { O_PATH, O_RDONLY } from '../../abi/fcntl.ts'
import { toInside } from '../../abi/id-map.ts'
import { fileType, S_IFDIR } from '../../abi/stat.ts'
import type { NoGroup } from '../../calls/device-programs.ts'
import type { ReasonCode } from '../../calls/reason.ts'
import { openGroup } from '../../kernel/cgroup.ts'
import { isErrno, orFalse, orUndefined, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { type Identity, openat, read, statx } from '../../kernel/files.ts'
import type { Handle } from '../../kernel/handle.ts'
import { parentUserNamespace } from '../../kernel/pidfd.ts'
import { parentIn } from '../../kernel/process.ts'
import type { Container } from '../identity/container.ts'

const PARENT = Buffer.from('..\0')
const PROCS = Buffer.from('cgroup.procs\0')
/** Each level costs a descriptor during the call, and the kernel itself sets no limit. */
const DEPTH_LIMIT = 128
/** User namespaces nest 32 deep at most, linux/kernel/user_namespace.c. */
const USERNS_LIMIT = 33
/** As many processes of one cgroup are looked at; where there are more, it is not known whose they are. */
const PROCS_LIMIT = 64 * 1024
/** To look at more of them takes milliseconds. */
const FEW = 64

/** Between two looks. */
const LOOK_MS = 10
const never = new Int32Array(new SharedArrayBuffer(4))

const isSame = (one: Identity, other: Identity): boolean => one.dev === other.dev && one.ino === other.ino

/** Where a cgroup is: `above` leads from its parent to the root, all in one mount. */
export interface Located {
  readonly group: Fd
  readonly above: readonly Fd[]
}

/**
 * Finds a cgroup by its file system and id, so that it does not matter by which mount the caller sees it.
 *
 * @param home the cgroup below which it must be
 * @param own keeps what is opened
 */
export function locate(home: Handle, candidate: Handle, own: (fd: Fd) => Fd): Located | NoGroup {
  const homeId = statx(home.raw)
  const { dev, ino, mode } = identifyAny(candidate) ?? homeless
  if (dev !== homeId.dev || fileType(mode) !== S_IFDIR) return 'notCgroup'
  if (ino === homeId.ino) return 'ownCgroup'
  const group = reopen(home, ino)
  if (!group) return 'removedCgroup'
  own(group)
  const above = ancestors(group, own)
  return above.some((fd) => isSame(statx(fd.raw), homeId)) ? { group, above } : 'outsideCgroup'
}

/** A descriptor may outlive its group, and so may a link. @returns undefined if that was removed */
export const reopen = (home: Handle, id: bigint): Fd | undefined => orUndefined(['ESTALE'], () => openGroup(home, id))

const homeless = { dev: -1n, ino: 0n, mode: 0 } as unknown as Identity

/** A file system of the container may refuse even that: then it is none of ours. */
const identifyAny = (handle: Handle): Identity | undefined => orUndefined('any', () => statx(handle.raw))

/** All groups above, up to the root of the mount. */
function ancestors(group: Fd, own: (fd: Fd) => Fd): readonly Fd[] {
  const above: Fd[] = []
  for (let here = group; above.length < DEPTH_LIMIT; ) {
    const parent = own(openat(here.raw, PARENT, O_PATH))
    // The root is its own parent; above the root of a mount lies another file system.
    const [one, other] = [statx(here.raw), statx(parent.raw)]
    if (isSame(one, other) || one.dev !== other.dev) return above
    above.push(parent)
    here = parent
  }
  throw new SyscallError('openat', errnos.ELOOP as SyscallError['errno'])
}

/** Why a container may attach nothing, by the cgroup into which its init was put. */
export function cgroupProblem(home: Handle | undefined): 'noCgroup' | 'rootCgroup' | undefined {
  if (!home) return 'noCgroup'
  using parent = openat(home.raw, PARENT, O_PATH)
  const [one, other] = [statx(home.raw), statx(parent.raw)]
  return isSame(one, other) || one.dev !== other.dev ? 'rootCgroup' : undefined
}

/**
 * Could something of the container be beside this group or above it? Who owns the group above, or may write there, may move
 * his processes.
 */
export function isNested(home: Handle, { uidMap, gidMap }: Pick<Container, 'uidMap' | 'gidMap'>): boolean {
  using parent = openat(home.raw, PARENT, O_PATH)
  const { uid, gid, mode } = statx(parent.raw)
  const isOfGroup = (mode & 0o020) !== 0 && toInside(gidMap, gid) !== undefined
  return toInside(uidMap, uid) !== undefined || isOfGroup || (mode & 0o002) !== 0
}

/** Looks up to so often, as long as there are strangers: what joins to enter the container is there for a moment. */
export function strangersAtLast(
  looks: number,
  mayBlock: () => void,
  look: () => ReasonCode | undefined,
): ReasonCode | undefined {
  let found = look()
  for (let more = looks - 1; found === 'sharedCgroup' && more > 0; more--) {
    mayBlock()
    Atomics.wait(never, 0, 0, LOOK_MS)
    found = look()
  }
  return found
}

const text = Buffer.alloc(PROCS_LIMIT)

/** @returns how many bytes of `text` the file fills; the kernel gives a page at a time */
function fill(file: Handle): number {
  let length = 0
  for (let more = 1; more > 0 && length < PROCS_LIMIT; length += more) more = read(file, text.subarray(length))
  return length
}

/**
 * Are all processes of a cgroup in this user namespace or in one below it? The engine's own do not count: what mounts for the
 * container, or tries its device rules, is in its cgroup for that moment.
 *
 * @param proc the host's procfs
 * @param mayTakeLong called before a look at many
 * @returns why not
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

/** @param pid "0" for a process that is not in our pid namespace: it is nobody's */
function isWithin(proc: Handle, pid: string, userns: bigint): boolean {
  try {
    let namespace: Fd | undefined = openat(proc.raw, Buffer.from(`${pid}/ns/user\0`), O_RDONLY)
    for (let depth = 0; namespace && depth < USERNS_LIMIT; depth++) {
      using held: Fd = namespace
      if (statx(held.raw).ino === userns) return true
      namespace = parentUserNamespace(held)
    }
    namespace?.[Symbol.dispose]()
    return false
  } catch (error) {
    // It has ended.
    return pid !== '0' && isErrno(error, 'ENOENT')
  }
}

/** Did the engine start it? No process of a container can have the engine as its parent. */
const isChild = (proc: Handle, pid: string): boolean =>
  orFalse('any', () => parentIn(proc.raw, Buffer.from(`${pid}/stat\0`)) === process.pid)
