import '../processes/program-flags.ts'
import { readFileSync } from 'node:fs'
import type { HostId, PathBytes, Tid } from '../abi/brand.ts'
import { capBit, type IdExtent, parseIdMap, toInside } from '../abi/credentials.ts'
import { errnos } from '../abi/errno.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { CLONE_FS } from '../abi/process.ts'
import { lookup } from '../caller/paths/lookup.ts'
import type { LookupStart } from '../caller/paths/lookup-types.ts'
import type { WalkReply, WalkRequest } from '../caller/paths/walker-client.ts'
import { pinWithin } from '../caller/task/find-task.ts'
import { ContinueError } from '../calls/verdict.ts'
import { threadTime } from '../kernel/clock.ts'
import { setFsgid, setFsuid, setGroups, setResgid, setResuid } from '../kernel/credentials.ts'
import { SyscallError } from '../kernel/error.ts'
import { Fd } from '../kernel/fd.ts'
import { chrootTo, openat, statx } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { pidfdIsAlive } from '../kernel/pidfd.ts'
import { unshare } from '../kernel/process.ts'
import { requireBuild } from '../processes/build-id.ts'
import { reply, serveRequests } from '../processes/helper.ts'
import { OwnCaps, processCaps } from '../processes/process-caps.ts'

/**
 * The entry of a walker: a process in the user namespace of one container that resolves paths as a caller would.
 * There it can have the caller's capabilities over files, which no thread of the initial user namespace can have; it
 * may enter FUSE file systems of the container, which admit nobody else; and through links of other tasks in procfs
 * the kernel lets it look exactly where it would let the caller. It holds nothing else, and a walker that hangs is
 * abandoned.
 */

/** The inherited descriptor of the init's pid namespace, which the walker itself is not in. */
const PIDNS = 5

requireBuild(process.argv[2])
const proc = openat(AT_FDCWD, Buffer.from('/proc\0'), O_PATH)
const uidMap = parseIdMap(readFileSync('/proc/self/uid_map', 'latin1'))
const gidMap = parseIdMap(readFileSync('/proc/self/gid_map', 'latin1'))
unshare(CLONE_FS)
const bounds = { pidns: new Fd(PIDNS), userns: ownUserns(), proc }
const own = new OwnCaps(processCaps.walker)
own.rest()
/** The time of the start counts for the first answer. */
let counted = 0

function ownUserns(): bigint {
  using namespace = openat(proc.raw, cstring('self/ns/user'), O_RDONLY)
  return statx(namespace.raw).ino
}

function inside(map: readonly IdExtent[], id: number): number {
  const found = toInside(map, id)
  if (found === undefined) throw new RangeError(`Cannot become ${id}: it is not mapped`)
  return found
}

/**
 * Returns the processor time since the previous call, in milliseconds; work after an answer counts for the next one.
 */
function worked(): number {
  const last = counted
  counted = threadTime()
  return counted - last
}

function become({ uids, gids, groups, effective }: WalkRequest, root: Fd): void {
  own.enter('become')
  setGroups(Uint32Array.from(groups, (id) => inside(gidMap, id)))
  const [rgid, egid, sgid, fsgid] = gids.map((id) => inside(gidMap, id)) as [number, number, number, number]
  const [ruid, euid, suid, fsuid] = uids.map((id) => inside(uidMap, id)) as [number, number, number, number]
  setResgid(rgid, egid, sgid)
  setResuid(ruid, euid, suid)
  if (!setFsgid(fsgid as HostId) || !setFsuid(fsuid as HostId)) throw new RangeError('Cannot become the caller')
  // This runs with the caller's ids, not the previous caller's, since the root directory may admit only these.
  chrootTo(root)
  own.enter('walk', BigInt(`0x${effective}`))
}

/**
 * Returns a function that runs an action with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: what a process may always
 * inspect of itself, another process may only inspect with them.
 */
const lookingBeside =
  ({ effective }: WalkRequest): LookupStart['looking'] =>
  (action) => {
    own.enter('beside')
    try {
      return action()
    } finally {
      own.enter('walk', BigInt(`0x${effective}`))
    }
  }

/**
 * Opens another task's procfs directory with the caller's rights alone. Our own process is not within `bounds`, since
 * its pid namespace is another: the kernel would always let us follow its links.
 */
function otherTask(number: () => Tid): Fd {
  const { tid, pidfd } = pinWithin(bounds, number)
  using held = pidfd
  const directory = openat(proc.raw, cstring(`${tid}`), O_PATH | O_DIRECTORY)
  if (pidfdIsAlive(held)) return directory
  directory[Symbol.dispose]()
  throw new ContinueError('noSuchTask')
}

/**
 * Returns the errno of an answer. EACCES, the default, leaves the call to the kernel; ELOOP means a link was not
 * followed.
 */
function errnoOf(error: unknown): number {
  if (error instanceof SyscallError) return error.errno
  return error instanceof ContinueError ? errnos.ELOOP : errnos.EACCES
}

function serve(request: WalkRequest, [answers, root, base, process]: readonly Fd[]): void {
  try {
    become(request, root!)
    const path = Buffer.from(`${request.path}\0`, 'latin1') as Uint8Array as PathBytes
    const { numbers, uids } = request
    const fsuid = inside(uidMap, uids[3]) as HostId
    // `become` has already changed to the caller's root, so `stand` does nothing.
    const handles = { base: base!, root: () => root!, process: () => process!, proc }
    const isPtracer = (BigInt(`0x${request.effective}`) & capBit('SYS_PTRACE')) !== 0n
    const rights = { looking: lookingBeside(request), isPtracer, other: otherTask }
    using found = lookup(
      { ...handles, numbers, fsuid, stand: () => {}, ...rights },
      { path, wanted: request.wanted },
      () => {},
    )
    reply<WalkReply>(answers!, { errno: 0, worked: worked() }, [found])
  } catch (error) {
    reply<WalkReply>(answers!, { errno: errnoOf(error), worked: worked() })
  } finally {
    own.rest()
  }
}

Error.stackTraceLimit = 0
serveRequests(serve)
