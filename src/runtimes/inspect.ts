import { readFileSync, readlinkSync } from 'node:fs'
import { AT_FDCWD } from '../abi/fcntl.ts'
import { type IdExtent, parseIdMap } from '../abi/id-map.ts'
import type { ReasonCode } from '../calls/reason.ts'
import type { Fd } from '../kernel/fd.ts'
import { identify, O_RDONLY, openat } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { parentUserNamespace, pidfdOpen } from '../kernel/pidfd.ts'
import { openCgroup } from './cgroup.ts'

/** What the init of a container looks like at the hand-over. */
export interface Init extends Disposable {
  /** Its user namespace: the container's initial one, held open so that its number stays its own. */
  readonly userns: Fd
  readonly usernsInode: bigint
  readonly uidMap: readonly IdExtent[]
  readonly gidMap: readonly IdExtent[]
  readonly pidns: Fd
  readonly pidfd: Fd
  /** Where it is in the unified hierarchy, if that is mounted here. */
  readonly cgroup: Fd | undefined
  /**
   * May it have a walker? Not if its processes see those of the host: its root could trace the walker, which is a process of
   * its user namespace, while that still starts.
   */
  readonly walkable: boolean
  /** Why nothing can be done for this container, if so. */
  readonly barred: ReasonCode | undefined
}

/**
 * Looks at the process that a runtime handed over in state "creating". The runtime still waits for us, so the process is
 * there and its number is its own.
 *
 * @throws {SyscallError} ENOENT if there is no such process in our pid namespace
 */
export function inspectInit(pid: number): Init {
  const open = (name: string): Fd => openat(AT_FDCWD, cstring(`/proc/${pid}/ns/${name}`), O_RDONLY)
  const pidfd = pidfdOpen(pid)
  const [userns, pidns, cgroup] = [open('user'), open('pid'), openCgroup(pid)]
  const mapOf = (name: string): readonly IdExtent[] => parseIdMap(readFileSync(`/proc/${pid}/${name}`, 'latin1'))
  return {
    userns,
    pidns,
    pidfd,
    cgroup,
    usernsInode: identify(userns.raw).ino,
    uidMap: mapOf('uid_map'),
    gidMap: mapOf('gid_map'),
    walkable: namespaceOf(pid, 'pid') !== namespaceOf('self', 'pid'),
    barred: barredBy(userns),
    [Symbol.dispose]: () => {
      for (const handle of [userns, pidns, pidfd, cgroup]) handle?.[Symbol.dispose]()
    },
  }
}

const namespaceOf = (pid: number | 'self', name: string): string => readlinkSync(`/proc/${pid}/ns/${name}`)

function barredBy(userns: Fd): ReasonCode | undefined {
  using ours = openat(AT_FDCWD, cstring('/proc/self/ns/user'), O_RDONLY)
  const our = identify(ours.raw).ino
  if (identify(userns.raw).ino === our) return 'hostUserns'
  using parent = parentUserNamespace(userns)
  return parent && identify(parent.raw).ino === our ? undefined : 'foreignUserns'
}
