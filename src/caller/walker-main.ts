import { readFileSync } from 'node:fs'
import type { HostId, PathBytes } from '../abi/brand.ts'
import { type Cap, capMask } from '../abi/capability.ts'
import { errnos } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { type IdExtent, parseIdMap, toInside } from '../abi/id-map.ts'
import { requireBuild } from '../kernel/build.ts'
import {
  CapabilitySet,
  getCapabilities,
  setFsgid,
  setFsuid,
  setGroups,
  setResgid,
  setResuid,
} from '../kernel/credentials.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { chrootTo, O_PATH, openat } from '../kernel/files.ts'
import { CLONE_FS, unshare } from '../kernel/namespaces.ts'
import { exitGroup, SECBIT_NO_SETUID_FIXUP, setSecurebits } from '../kernel/process.ts'
import { type Goal, lookup, type Start } from './lookup.ts'
import { reply, serveRequests } from './requests.ts'
import { walk } from './walk.ts'
import type { Reply, Request } from './walker.ts'

/**
 * The walker of one container: a process in its user namespace that looks paths up as a caller would, with the
 * capabilities over files that the caller has there, which no thread of the initial user namespace can have, and into FUSE
 * file systems of the container, which let nobody else in. It knows nothing else, holds nothing else, and when it hangs
 * it is left alone.
 */

/** To become a caller. */
const BECOME: readonly Cap[] = ['SETUID', 'SETGID', 'SYS_CHROOT', 'DAC_READ_SEARCH']
/** Of a caller's capabilities, those that count in a lookup. */
const COUNTING = capMask('DAC_OVERRIDE', 'DAC_READ_SEARCH', 'SYS_PTRACE')

requireBuild(process.argv[2])
const proc = openat(AT_FDCWD, Buffer.from('/proc\0'), O_PATH)
const uidMap = parseIdMap(readFileSync('/proc/self/uid_map', 'latin1'))
const gidMap = parseIdMap(readFileSync('/proc/self/gid_map', 'latin1'))
setSecurebits(SECBIT_NO_SETUID_FIXUP)
unshare(CLONE_FS)
const { permitted } = getCapabilities()
const set = (effective: bigint): CapabilitySet => new CapabilitySet({ effective, permitted, inheritable: 0n })
const becoming = set(capMask(...BECOME))
const looking = set(capMask('SYS_PTRACE', 'DAC_READ_SEARCH'))

function inside(map: readonly IdExtent[], id: number): number {
  const found = toInside(map, id)
  if (found === undefined) throw new RangeError(`Cannot become ${id}: it is not mapped`)
  return found
}

/** @returns the capabilities that it has then */
function become({ uids, gids, groups, effective }: Request, root: Fd): CapabilitySet {
  becoming.enter()
  setGroups(Uint32Array.from(groups, (id) => inside(gidMap, id)))
  const [rgid, egid, sgid, fsgid] = gids.map((id) => inside(gidMap, id)) as [number, number, number, number]
  const [ruid, euid, suid, fsuid] = uids.map((id) => inside(uidMap, id)) as [number, number, number, number]
  setResgid(rgid, egid, sgid)
  setResuid(ruid, euid, suid)
  if (!setFsgid(fsgid as HostId) || !setFsuid(fsuid as HostId)) throw new RangeError('Cannot become the caller')
  // As the caller, whom its own root directory may let in by its ids alone, and not as the one before.
  chrootTo(root)
  const caps = set(BigInt(`0x${effective}`) & COUNTING)
  caps.enter()
  if (!caps.entered) throw new RangeError('Cannot take the capabilities of the caller')
  return caps
}

/** What a caller may look at in any case, as itself, another process may with these capabilities only. */
function lookingBeside(caps: CapabilitySet): Start['looking'] {
  return (action) => {
    looking.enter()
    try {
      return action()
    } finally {
      caps.enter()
      if (!caps.entered) exitGroup(1)
    }
  }
}

/** To whom it must not lead, a link of procfs says that, and not that it is one. */
function find(start: Start, goal: Goal): Fd {
  try {
    return lookup(start, goal, () => {})
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== errnos.EACCES || goal.wanted === 'outsideProc') throw error
    return walk(start, goal)
  }
}

function serve(request: Request, [answers, root, base, process]: readonly Fd[]): void {
  try {
    const caps = become(request, root!)
    const path = Buffer.from(`${request.path}\0`, 'latin1') as Uint8Array as PathBytes
    const { numbers } = request
    // `become` has made the root its own.
    const handles = { base: base!, root: () => root!, process: () => process!, proc }
    const start = { ...handles, numbers, stand: () => {}, looking: lookingBeside(caps) }
    using found = find(start, { path, wanted: request.wanted })
    reply<Reply>(answers!, { errno: 0 }, [found])
  } catch (error) {
    // EACCES: then the kernel judges the caller alone.
    reply<Reply>(answers!, { errno: error instanceof SyscallError ? error.errno : errnos.EACCES })
  }
}

Error.stackTraceLimit = 0
await serveRequests(serve)
