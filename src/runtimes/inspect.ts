import { readFileSync, readlinkSync } from 'node:fs'
import { AT_FDCWD, O_RDONLY } from '../abi/fcntl.ts'
import { type IdExtent, parseIdMap } from '../abi/id-map.ts'
import type { ContainerHandles } from '../caller/identity/container.ts'
import type { Exec } from '../calls/fuse.ts'
import type { ReasonCode } from '../calls/reason.ts'
import { ticksPerSecond } from '../kernel/clock.ts'
import { dup, type Fd } from '../kernel/fd.ts'
import { openat, statx } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { ownerOf, parentUserNamespace, pidfdOpen } from '../kernel/pidfd.ts'
import { startIn } from '../kernel/process.ts'
import { openGroups } from './cgroup.ts'
import { execFor, type RuntimeCall } from './exec.ts'
import type { Handover } from './handover.ts'
import { recordedRuntime } from './recorded.ts'

/** What becomes `Container.handles` in the engine. */
type InitHandles = { readonly [K in keyof ContainerHandles]: Fd }

/** What the init of a container looks like at the hand-over. */
export interface Init extends Disposable {
  /** Held open as long as the container is known: so the number of its user namespace stays its own. */
  readonly handles: InitHandles
  readonly usernsInode: bigint
  readonly uidMap: readonly IdExtent[]
  readonly gidMap: readonly IdExtent[]
  /** When it was started: milliseconds on our boot clock. */
  readonly startedMs: number
  /**
   * May it have a walker? Not if its processes see those of the host: its root could trace the walker, which is a process of
   * its user namespace, while that still starts. Nor if that is ours, which nobody can join once more.
   */
  readonly walkable: boolean
  /** How a program is started in it, if that was asked for and is known. */
  readonly exec: Exec | undefined
  /** Why nothing can be done for this container, if so. */
  readonly barred: ReasonCode | undefined
}

export interface InspectOptions {
  /** If it shall start programs in the container. */
  readonly runtime?: RuntimeCall | undefined
  /** A user runs us, in the user namespace that the containers may share: its root is that user. */
  readonly forUser?: boolean
}

/** What was said of a container, and what else is known. */
interface Starter extends InspectOptions {
  readonly handover: Handover
}

/** What a hand-over lets us know of its container, and why nothing can be done for it, if so. */
export function inspect(
  handover: Handover,
  circumstances: InspectOptions,
): {
  readonly init: Init | undefined
  readonly barred: ReasonCode | undefined
} {
  const { creating, started, pid } = handover
  if (started !== undefined && pid === 0) return { init: undefined, barred: 'invisibleCaller' }
  if (!creating && started === undefined) return { init: undefined, barred: 'unknownContainer' }
  const isLate = started !== undefined
  const init = inspectInit(pid, isLate, { handover, ...circumstances })
  return { init, barred: init.barred ?? (isLate ? barredLate(init) : undefined) }
}

/**
 * An init that has been running for a while may have made itself another user namespace. The one that owns its pid
 * namespace, which it cannot change, is the one that it was started in.
 */
function barredLate({ handles, usernsInode }: Init): ReasonCode | undefined {
  using owner = ownerOf(handles.pidns)
  return statx(owner.raw).ino === usernsInode ? undefined : 'unclearUserns'
}

/**
 * Looks at the process that a runtime handed over in state "creating". The runtime still waits for us, so the process is
 * there and its number is its own.
 *
 * @throws {Error} if there is no such process in our pid namespace (any more)
 */
function inspectInit(pid: number, isLate: boolean, starter: Starter): Init {
  const opened: Fd[] = []
  try {
    const own = (fd: Fd): Fd => {
      opened.push(fd)
      return fd
    }
    return look(pid, isLate, starter, own)
  } catch (error) {
    for (const fd of opened) fd[Symbol.dispose]()
    throw error
  }
}

/** @param own is told of each descriptor as soon as it is open */
function look(pid: number, isLate: boolean, { handover, runtime, forUser }: Starter, own: (fd: Fd) => Fd): Init {
  const open = (name: string): Fd => own(openat(AT_FDCWD, cstring(`/proc/${pid}/ns/${name}`), O_RDONLY))
  const namespaces = { userns: open('user'), pidns: open('pid'), init: own(pidfdOpen(pid)) }
  const groups = openGroups(pid, isLate)
  for (const fd of Object.values(groups)) own(fd)
  const elsewhere = runtime?.mounts && { runtime: own(dup(runtime.mounts)) }
  const handles = { ...namespaces, ...groups, ...elsewhere }
  const isOurs = namespaceOf(pid, 'user') === namespaceOf('self', 'user')
  const barred = forUser && isOurs ? undefined : barredBy(handles.userns)
  return {
    handles,
    usernsInode: statx(handles.userns.raw).ino,
    startedMs: (1000 * startIn(AT_FDCWD, cstring(`/proc/${pid}/stat`))) / ticksPerSecond(),
    uidMap: isOurs ? SAME : mapOf(pid, 'uid_map'),
    gidMap: isOurs ? SAME : mapOf(pid, 'gid_map'),
    walkable: !isOurs && namespaceOf(pid, 'pid') !== namespaceOf('self', 'pid'),
    exec: execFor(handover, runtime ?? recordedRuntime(handover)),
    barred,
    [Symbol.dispose]: () => {
      for (const handle of Object.values(handles)) handle[Symbol.dispose]()
    },
  }
}

/** Of a container in our own user namespace. Its file tells how that is mapped in the one above. */
const SAME: readonly IdExtent[] = [{ inside: 0, outside: 0, count: 0xffff_ffff }]
const mapOf = (pid: number, name: string): readonly IdExtent[] =>
  parseIdMap(readFileSync(`/proc/${pid}/${name}`, 'latin1'))

const namespaceOf = (pid: number | 'self', name: string): string => readlinkSync(`/proc/${pid}/ns/${name}`)

function barredBy(userns: Fd): ReasonCode | undefined {
  using ours = openat(AT_FDCWD, cstring('/proc/self/ns/user'), O_RDONLY)
  const our = statx(ours.raw).ino
  if (statx(userns.raw).ino === our) return 'hostUserns'
  using parent = parentUserNamespace(userns)
  return parent && statx(parent.raw).ino === our ? undefined : 'foreignUserns'
}
