import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { type IdExtent, parseIdMap } from '../abi/credentials.ts'
import { AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY } from '../abi/fcntl.ts'
import type { ContainerHandles } from '../caller/identity/container.ts'
import { readProcText } from '../caller/task/same-as-init.ts'
import type { Exec } from '../calls/fuse.ts'
import type { ReasonCode } from '../calls/reasons.ts'
import { parseCgroups } from '../kernel/cgroup.ts'
import { orUndefined } from '../kernel/error.ts'
import { dup, type Fd, orClose } from '../kernel/fd.ts'
import { openat, statx } from '../kernel/files.ts'
import { cstring } from '../kernel/libc.ts'
import { ownerOf, parentNamespace, pidfdIsAlive, pidfdOpen } from '../kernel/pidfd.ts'
import { type TimeNamespace, timeNamespaceOf } from '../kernel/process.ts'
import { type Mount, parseMountinfo } from '../kernel/procfs/mountinfo.ts'
import { PRINT_INPUT, STAT, statNumber } from '../kernel/procfs/status.ts'
import { ticksPerSecond } from '../kernel/system-info.ts'
import { givesUserns, isUnreadable } from './bundle.ts'
import { execFor, type RuntimeCall } from './exec.ts'
import type { Handover } from './handover.ts'
import { recordedRuntime } from './recorded.ts'

/** The cgroups of a process, for each hierarchy that is mounted if the process is below our own cgroup root. */
interface InitCgroups {
  /** The cgroup of the unified hierarchy, cgroup v2. */
  readonly cgroup?: Fd
  /** The cgroup of v1's memory controller. */
  readonly memory?: Fd
  /** The cgroup of v1's devices controller; absent if it is our own cgroup too. */
  readonly devices?: Fd
  /**
   * The cgroup that counts the container's tasks; absent if it is our own too, since it then holds tasks of the host.
   */
  readonly tasks?: Fd
}

/** Paths by the name of a controller of v1; '' is the unified hierarchy. */
type Paths = ReadonlyMap<string, string>

/**
 * Opens the cgroups in which a process is now.
 *
 * @param isLate whether the process may have moved to descendants of its container's cgroup, see `payloadOf`
 */
export function openGroups(pid: number, isLate: boolean): InitCgroups {
  const paths = isLate ? new Map([...pathsOf(pid)].map(([name, path]) => [name, payloadOf(path)])) : pathsOf(pid)
  const own = pathsOf('self')
  const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1'))
  const open = (hierarchy: string): Fd | undefined => openGroup(paths.get(hierarchy), mounts, hierarchy)
  const openOthers = (hierarchy: string): Fd | undefined =>
    paths.get(hierarchy) === own.get(hierarchy) ? undefined : open(hierarchy)
  const groups = {
    cgroup: open(''),
    memory: open('memory'),
    devices: openOthers('devices'),
    tasks: openOthers('pids') ?? openOthers(''),
  }
  return Object.fromEntries(Object.entries(groups).filter(([, fd]) => fd)) as InitCgroups
}

/**
 * Returns the cgroup that LXC makes for a container; the container makes others below it, as its systemd does at the
 * start. Only the outermost `lxc.payload` counts, since names further down are the container's choice.
 */
export const payloadOf = (path: string): string => /^.*?\/lxc\.payload[^/]*/.exec(path)?.[0] ?? path

function pathsOf(pid: number | 'self'): Paths {
  const memberships = parseCgroups(readFileSync(`/proc/${pid}/cgroup`, 'latin1'))
  const named = memberships.flatMap(({ controllers, path }) =>
    (controllers.length > 0 ? controllers : ['']).map((name) => [name, whole(path)] as const),
  )
  return new Map(named)
}

/** Drops `/init.scope`, a cgroup that systemd makes for itself beside those of its services. */
const whole = (path: string): string => path.replace(/\/init\.scope$/, '') || '/'

function openGroup(path: string | undefined, mounts: readonly Mount[], hierarchy: string): Fd | undefined {
  if (path === undefined || path.startsWith('/..')) return undefined
  const shows = ({ type, root, superOptions }: Mount): boolean =>
    root === '/' && (hierarchy === '' ? type === 'cgroup2' : type === 'cgroup' && superOptions.includes(hierarchy))
  return mounts
    .filter(shows)
    .reduceRight<Fd | undefined>((found, { point }) => found ?? openIfThere(`${point}${path}`), undefined)
}

/** Opens a cgroup's directory; undefined if another mount hides it or it cannot be opened. */
const openIfThere = (path: string): Fd | undefined =>
  orUndefined('any', () => openat(AT_FDCWD, Buffer.from(`${path}\0`, 'latin1'), O_PATH | O_DIRECTORY))

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
  /** The file systems, as MAJOR:MINOR, that its runtime has mounted nodev. */
  readonly nodev: ReadonlySet<string>
  /** True if lxcfs shows the container's own memory in its /proc/meminfo. */
  readonly lxcfs: boolean
  /** The time namespace of the init; missing if it cannot be told. */
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

interface InspectOptions {
  /** Missing where nothing can be done for the container. */
  readonly look?: InitLook | undefined
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
  const { isLate = false, creating, pid } = handover
  if ((isLate || creating) && pid === 0) return { init: undefined, barred: 'invisibleCaller' }
  const { look, ...starter } = options
  if (!look) return { init: undefined, barred: 'unknownContainer' }
  const init = inspectInit(look, { handover, ...starter })
  return { init, barred: init.barred }
}

/**
 * Checks the user namespace of an init that may have entered another one since it was started. The init cannot change
 * its pid namespace, so the owner of this is the user namespace in which it was started.
 */
function barredLate({ userns, pidns }: Pick<InitHandles, 'userns' | 'pidns'>): ReasonCode | undefined {
  using owner = ownerOf(pidns)
  return statx(owner.raw).ino === statx(userns.raw).ino ? undefined : 'unclearUserns'
}

/**
 * Inspects the process that a runtime handed over as a container's init.
 *
 * @throws {Error} if there is no such process in our pid namespace (any more)
 */
function inspectInit(look: InitLook, starter: Starter): Init {
  const opened: Fd[] = []
  const own = (fd: Fd): Fd => {
    opened.push(fd)
    return fd
  }
  return orClose(opened, () => read(look, starter, own))
}

/** Opens and reads what is needed of an init. @param own called with each descriptor as soon as it is open */
function read(look: InitLook, { handover, runtime, forUser }: Starter, own: (fd: Fd) => Fd): Init {
  const { path, started, facts } = look
  const { isLate = false, pid } = handover
  const open = (name: string): Fd => own(openat(AT_FDCWD, cstring(path(`ns/${name}`)), O_RDONLY))
  const namespaces = { userns: open('user'), pidns: open('pid'), init: own(dup(look.init)) }
  const groups = openGroups(pid, isLate)
  for (const fd of Object.values(groups)) own(fd)
  const foreignMounts = runtime?.mounts && { runtime: own(dup(runtime.mounts)) }
  const handles = { ...namespaces, ...groups, ...foreignMounts }
  const isOurs = isOwn(handles.userns, 'user')
  const barred = forUser && isOurs ? undefined : barredInit(look, handover, handles)
  const init = {
    handles,
    // One that the init has entered by itself is not the container's.
    usernsInode: barred === 'hostUserns' ? ownInode('user') : statx(handles.userns.raw).ino,
    startedMs: (1000 * started) / ticksPerSecond(),
    uidMap: isOurs ? SAME : mapOf(pid, 'uid_map'),
    gidMap: isOurs ? SAME : mapOf(pid, 'gid_map'),
    ...facts,
    walkable: !isOurs && !isOwn(handles.pidns, 'pid'),
    exec: execFor(handover, runtime ?? recordedRuntime(handover)),
    barred,
    [Symbol.dispose]: () => {
      for (const handle of Object.values(handles)) handle[Symbol.dispose]()
    },
  }
  if (!pidfdIsAlive(look.init)) throw new Error(`Cannot serve container ${handover.id}: its init has ended`)
  return init
}

/** Returns why nothing can be done for an init by its user namespace, which it may have entered by itself. */
function barredInit(look: InitLook, handover: Handover, handles: InitHandles): ReasonCode | undefined {
  const { isLate, bundle } = handover
  const why = barredBy(handles.userns) ?? barredMeanwhile(look, handover)
  return why ?? (isLate || isUnreadable(bundle) ? barredLate(handles) : undefined)
}

/**
 * Checks that an init in a user namespace other than ours was there when it was handed over: by now it may have
 * entered one of its own, above all where the runtime has given it none.
 */
function barredMeanwhile({ uidMap }: InitLook, { pid, bundle }: Handover): ReasonCode | undefined {
  if (givesUserns(bundle) === false) return 'hostUserns'
  return uidMap === uidMapOf('self') || uidMap !== uidMapOf(pid) ? 'unclearUserns' : undefined
}

/** The id map of a container in our own user namespace, whose own map would be relative to the parent namespace. */
const SAME: readonly IdExtent[] = [{ inside: 0, outside: 0, count: 0xffff_ffff }]
const uidMapOf = (pid: number | 'self'): string => readFileSync(`/proc/${pid}/uid_map`, 'latin1')
const mapOf = (pid: number, name: string): readonly IdExtent[] =>
  parseIdMap(readFileSync(`/proc/${pid}/${name}`, 'latin1'))

/** A container that has more of them, which a late hand-over can find, gets no more help with them. */
const NODEV_LIMIT = 1024

function mountsOf(pid: number): Pick<Init, 'nodev' | 'lxcfs'> {
  using task = openat(AT_FDCWD, cstring(`/proc/${pid}`), O_PATH | O_DIRECTORY)
  const mounts = parseMountinfo(readProcText(task, 'mountinfo'))
  const nodev = mounts.filter(({ options }) => options.includes('nodev'))
  return {
    nodev: new Set(nodev.slice(0, NODEV_LIMIT).map(({ device }) => device)),
    lxcfs: mounts.some(({ point, type }) => point === '/proc/meminfo' && type === 'fuse.lxcfs'),
  }
}

/** Returns the inode number of a namespace of ours. @param name as in /proc/self/ns */
function ownInode(name: string): bigint {
  using ours = openat(AT_FDCWD, cstring(`/proc/self/ns/${name}`), O_RDONLY)
  return statx(ours.raw).ino
}
/** Returns whether we are in a namespace. */
const isOwn = (namespace: Fd, name: string): boolean => statx(namespace.raw).ino === ownInode(name)

function barredBy(userns: Fd): ReasonCode | undefined {
  if (isOwn(userns, 'user')) return 'hostUserns'
  using parent = parentNamespace(userns)
  return parent && isOwn(parent, 'user') ? undefined : 'foreignUserns'
}

/**
 * What of /proc/PID of an init may make its reader wait for as long as the container likes: while the init executes a
 * program, which closes a file of a FUSE server of the container (linux/fs/exec.c, exec_update_lock). The init of a
 * hand-over may be as far: crun and runc wait for no answer.
 */
export interface InitLook extends Disposable {
  /** Opened before all else: as long as it is alive, what is read by the init's number is the init's. */
  readonly init: Fd
  /** The text of /proc/PID/uid_map at the hand-over. */
  readonly uidMap: string
  /** Returns a path that leads where this entry of /proc/PID leads, without waiting. */
  readonly path: (entry: string) => string
  /** In clock ticks since boot. */
  readonly started: number
  readonly facts: Pick<Init, 'nodev' | 'lxcfs' | 'time'>
}

/** The entries that `LOOK` opens, as descriptors 3, 4 and so on. */
const LOOKED_AT = ['ns/user', 'ns/pid', 'ns/time', 'ns/time_for_children']
const LOOK = `cd "/proc/$1" && exec 3<ns/user 4<ns/pid && { [ ! -e ns/time ] || exec 5<ns/time 6<ns/time_for_children; } &&
  ${PRINT_INPUT} <stat && exec >&- && read -r end`
/** The longest wait for a program that needs milliseconds. */
const PATIENCE_MS = 5000
/** After how long to look again at an init that is there, but has no namespaces. */
const AGAIN_MS = [10, 50, 250, 1000]
/** The inits at which a process of ours still looks, which may outlive a signal. */
const looking = new Set<number>()

/**
 * Looks at an init from a process of its own, which can be left behind: one for each init. It looks again while another
 * thread of the init executes a program: the first thread has ended then, and has no namespaces, until the other one
 * takes its number (linux/fs/exec.c de_thread()).
 *
 * @throws {Error} that says why nobody can look at it
 */
export async function lookAtInit(pid: number): Promise<InitLook> {
  const init = orUndefined('any', () => pidfdOpen(pid))
  if (!init) throw new Error(`there is no process ${pid}`)
  try {
    const uidMap = uidMapOf(pid)
    for (const again of [...AGAIN_MS, undefined]) {
      const look = await lookOnce(pid)
      if (look !== 'hangs' && look) {
        const { end, ...seen } = look
        const dispose = (): void => {
          end()
          init[Symbol.dispose]()
        }
        return { ...seen, init, uidMap, [Symbol.dispose]: dispose }
      }
      if (look === 'hangs' || again === undefined || !pidfdIsAlive(init)) break
      await pause(again)
    }
    throw new Error(`its init, process ${pid}, lets nobody look at it, as while it executes a program`)
  } catch (error) {
    init[Symbol.dispose]()
    throw error
  }
}

interface Seen extends Pick<InitLook, 'path' | 'started' | 'facts'> {
  readonly end: () => void
}

/** @returns undefined if the init has no namespaces now */
async function lookOnce(pid: number): Promise<Seen | 'hangs' | undefined> {
  const { child, said, ended } = startLook(pid)
  const end = (): void => void child.kill('SIGKILL')
  const path = (entry: string): string => {
    const at = LOOKED_AT.indexOf(entry)
    return at < 0 ? `/proc/${pid}/${entry}` : `/proc/${child.pid}/fd/${3 + at}`
  }
  try {
    // The last thing that it does before it waits for us is to end what it says.
    const stat = await said
    const facts = stat?.length ? orUndefined(['EINVAL'], () => factsOf(pid, path)) : undefined
    if (facts) return { path, started: statNumber(stat!, stat!.length, STAT.startTime), facts, end }
    end()
    if (!stat) return 'hangs'
    await ended
    return undefined
  } catch (error) {
    end()
    throw error
  }
}

/** @throws {SyscallError} EINVAL if the init has no namespaces now, and so no mounts */
function factsOf(pid: number, path: InitLook['path']): InitLook['facts'] {
  const time = timeNamespaceOf(
    AT_FDCWD,
    (entry) => cstring(path(entry)),
    (entry) => readFileSync(path(entry), 'latin1'),
  )
  return { time, ...mountsOf(pid) }
}

interface Looker {
  readonly child: ChildProcess
  /** What it says until it waits; undefined if that takes longer than we are patient. */
  readonly said: Promise<Buffer | undefined>
  readonly ended: Promise<void>
}

function startLook(pid: number): Looker {
  if (looking.has(pid)) throw new Error(`another process still waits to look at its init, process ${pid}`)
  const child = spawn('/bin/sh', ['-c', LOOK, 'sh', `${pid}`], { stdio: ['pipe', 'pipe', 'ignore'], env: {}, cwd: '/' })
  // Without a free descriptor or process there is none.
  child.on('error', () => {})
  if (child.pid === undefined) throw new Error(`no process can be started that looks at its init, process ${pid}`)
  looking.add(pid)
  const ended = new Promise<void>((resolve) => child.on('exit', () => resolve(void looking.delete(pid))))
  const timer = setTimeout(() => child.stdout.destroy(new Error()), PATIENCE_MS)
  const pieces = child.stdout.toArray().then(Buffer.concat, () => undefined)
  return { child, ended, said: pieces.finally(() => clearTimeout(timer)) }
}
