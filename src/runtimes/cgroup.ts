import { readFileSync } from 'node:fs'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../abi/fcntl.ts'
import { orUndefined } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { openat } from '../kernel/files.ts'
import { parseCgroups } from '../kernel/procfs/cgroup.ts'
import { type Mount, parseMountinfo } from '../kernel/procfs/mountinfo.ts'

/** The control groups of a process, each in its hierarchy, where that is mounted and the process is below our own root. */
export interface InitCgroups {
  /** Of the unified hierarchy, cgroup v2. */
  readonly cgroup?: Fd
  /** Of v1's memory controller. */
  readonly memory?: Fd
  /** Of v1's controller of devices, if it is not our own too. */
  readonly devices?: Fd
  /** The one that counts its tasks, if it is not our own too: then it holds those of the host. */
  readonly tasks?: Fd
}

/** By the name of a controller of v1; '' is the unified hierarchy. */
type Paths = ReadonlyMap<string, string>

/**
 * Opens the groups in which a process is now.
 *
 * @param isLate whether it may have gone to groups below those of its container: see `payloadOf`
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
 * The group that LXC makes for a container, above those that the container makes for itself, as its systemd does at the
 * start. Only the outermost counts: names further down are the container's choice.
 */
export const payloadOf = (path: string): string => /^.*?\/lxc\.payload[^/]*/.exec(path)?.[0] ?? path

function pathsOf(pid: number | 'self'): Paths {
  const memberships = parseCgroups(readFileSync(`/proc/${pid}/cgroup`, 'latin1'))
  const named = memberships.flatMap(({ controllers, path }) =>
    (controllers.length > 0 ? controllers : ['']).map((name) => [name, whole(path)] as const),
  )
  return new Map(named)
}

/** systemd as an init moves itself to a group of its own, beside those of its services. */
const whole = (path: string): string => path.replace(/\/init\.scope$/, '') || '/'

function openGroup(path: string | undefined, mounts: readonly Mount[], hierarchy: string): Fd | undefined {
  if (path === undefined || path.startsWith('/..')) return undefined
  const shows = ({ type, root, superOptions }: Mount): boolean =>
    root === '/' && (hierarchy === '' ? type === 'cgroup2' : type === 'cgroup' && superOptions.includes(hierarchy))
  return mounts
    .filter(shows)
    .reduceRight<Fd | undefined>((found, { point }) => found ?? openIfThere(`${point}${path}`), undefined)
}

/** A mount that another one covers does not lead there; a group that cannot be opened has no figures. */
const openIfThere = (path: string): Fd | undefined =>
  orUndefined('any', () => openat(AT_FDCWD, Buffer.from(`${path}\0`, 'latin1'), O_PATH | O_DIRECTORY))
