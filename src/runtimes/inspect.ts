import { readFileSync, readlinkSync } from 'node:fs'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import { type IdExtent, parseIdMap } from '../abi/id-map.ts'
import type { ContainerHandles } from '../caller/identity/container.ts'
import { readProcText } from '../caller/task/same-as-init.ts'
import type { Exec } from '../calls/fuse.ts'
import type { ReasonCode } from '../calls/reason.ts'
import { dup, type Fd } from '../kernel/fd.ts'
import { openat, statx } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { ownerOf, parentUserNamespace, pidfdOpen } from '../kernel/pidfd.ts'
import { startIn } from '../kernel/process.ts'
import { parseMountinfo } from '../kernel/procfs/mountinfo.ts'
import { type TimeNamespace, timeNamespaceOf } from '../kernel/procfs/time-namespace.ts'
import { ticksPerSecond } from '../kernel/system-info.ts'
import { openGroups } from './cgroup.ts'
import { execFor, type RuntimeCall } from './exec.ts'
import type { Handover } from './handover.ts'
import { recordedRuntime } from './recorded.ts'

/** The descriptors that become `Container.handles` in the engine. */
type InitHandles = { readonly [K in keyof ContainerHandles]: Fd }

/** What is known of a container's init at the hand-over. */
export interface Init extends Disposable {
  /**
   * Handles that stay open as long as the container is known, so that the inode number of its user namespace is not
   * reused.
   */
  readonly handles: InitHandles
  readonly usernsInode: bigint
  readonly uidMap: readonly IdExtent[]
  readonly gidMap: readonly IdExtent[]
  /** When the init was started, in milliseconds on our boot clock. */
  readonly startedMs: number
  /** The file systems, as MAJOR:MINOR, that its runtime has mounted nodev; missing if an older version looked. */
  readonly nodev?: ReadonlySet<string>
  /** The time namespace of the init; missing if it cannot be told, or an older version looked. */
  readonly time?: TimeNamespace | undefined
  /**
   * True if the container may have a walker, a process in its user namespace. Not if the container shares the host's
   * pid namespace: its root could trace the walker while it still starts. Nor if its user namespace is ours, which a
   * process cannot join again.
   */
  readonly walkable: boolean
  /** How to start a program in the container, if that was requested and is known. */
  readonly exec: Exec | undefined
  /** Why nothing can be done for this container; undefined if it can be served. */
  readonly barred: ReasonCode | undefined
}

export interface InspectOptions {
  /** The runtime that shall start programs in the container. */
  readonly runtime?: RuntimeCall | undefined
  /**
   * True if an unprivileged user runs the daemon, in a user namespace whose root is that user and which containers
   * may share.
   */
  readonly forUser?: boolean
}

/** The hand-over and the options of the inspection. */
interface Starter extends InspectOptions {
  readonly handover: Handover
}

/** Returns what a hand-over tells of its container, and why nothing can be done for it, if so. */
export function inspect(
  handover: Handover,
  options: InspectOptions,
): {
  readonly init: Init | undefined
  readonly barred: ReasonCode | undefined
} {
  const { creating, started, pid } = handover
  if (started !== undefined && pid === 0) return { init: undefined, barred: 'invisibleCaller' }
  if (!creating && started === undefined) return { init: undefined, barred: 'unknownContainer' }
  const isLate = started !== undefined
  const init = inspectInit(pid, isLate, { handover, ...options })
  return { init, barred: init.barred ?? (isLate ? barredLate(init) : undefined) }
}

/**
 * Checks the user namespace of an init that has been running for a while, which may have entered another one. The
 * init cannot change its pid namespace, so the owner of this is the user namespace in which it was started.
 */
function barredLate({ handles, usernsInode }: Init): ReasonCode | undefined {
  using owner = ownerOf(handles.pidns)
  return statx(owner.raw).ino === usernsInode ? undefined : 'unclearUserns'
}

/**
 * Inspects the process that a runtime handed over in state "creating". The runtime waits for the answer, so the
 * process exists and its number is its own.
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

/** Opens and reads what is needed of an init. @param own called with each descriptor as soon as it is open */
function look(pid: number, isLate: boolean, { handover, runtime, forUser }: Starter, own: (fd: Fd) => Fd): Init {
  const open = (name: string): Fd => own(openat(AT_FDCWD, cstring(`/proc/${pid}/ns/${name}`), O_RDONLY))
  const namespaces = { userns: open('user'), pidns: open('pid'), init: own(pidfdOpen(pid)) }
  const groups = openGroups(pid, isLate)
  for (const fd of Object.values(groups)) own(fd)
  const foreignMounts = runtime?.mounts && { runtime: own(dup(runtime.mounts)) }
  const handles = { ...namespaces, ...groups, ...foreignMounts }
  const isOurs = namespaceOf(pid, 'user') === namespaceOf('self', 'user')
  const barred = forUser && isOurs ? undefined : barredBy(handles.userns)
  return {
    handles,
    usernsInode: statx(handles.userns.raw).ino,
    startedMs: (1000 * startIn(AT_FDCWD, cstring(`/proc/${pid}/stat`))) / ticksPerSecond(),
    uidMap: isOurs ? SAME : mapOf(pid, 'uid_map'),
    gidMap: isOurs ? SAME : mapOf(pid, 'gid_map'),
    nodev: nodevFileSystems(pid),
    time: timeNamespace(pid),
    walkable: !isOurs && namespaceOf(pid, 'pid') !== namespaceOf('self', 'pid'),
    exec: execFor(handover, runtime ?? recordedRuntime(handover)),
    barred,
    [Symbol.dispose]: () => {
      for (const handle of Object.values(handles)) handle[Symbol.dispose]()
    },
  }
}

/** The id map of a container in our own user namespace, whose own map would be relative to the parent namespace. */
const SAME: readonly IdExtent[] = [{ inside: 0, outside: 0, count: 0xffff_ffff }]
const mapOf = (pid: number, name: string): readonly IdExtent[] =>
  parseIdMap(readFileSync(`/proc/${pid}/${name}`, 'latin1'))

const timeNamespace = (pid: number): TimeNamespace | undefined =>
  timeNamespaceOf(
    AT_FDCWD,
    (entry) => cstring(`/proc/${pid}/${entry}`),
    (entry) => readFileSync(`/proc/${pid}/${entry}`, 'latin1'),
  )

/** A container that has more of them, which a late hand-over can find, gets no more help with them. */
const NODEV_LIMIT = 1024

function nodevFileSystems(pid: number): ReadonlySet<string> {
  using task = openat(AT_FDCWD, cstring(`/proc/${pid}`), O_PATH | O_DIRECTORY)
  const mounts = parseMountinfo(readProcText(task, 'mountinfo')).filter(({ options }) => options.includes('nodev'))
  return new Set(mounts.slice(0, NODEV_LIMIT).map(({ device }) => device))
}

const namespaceOf = (pid: number | 'self', name: string): string => readlinkSync(`/proc/${pid}/ns/${name}`)

function barredBy(userns: Fd): ReasonCode | undefined {
  using ours = openat(AT_FDCWD, cstring('/proc/self/ns/user'), O_RDONLY)
  const our = statx(ours.raw).ino
  if (statx(userns.raw).ino === our) return 'hostUserns'
  using parent = parentUserNamespace(userns)
  return parent && statx(parent.raw).ino === our ? undefined : 'foreignUserns'
}
