import { readFileSync } from 'node:fs'
import { AT_FDCWD, O_DIRECTORY, O_PATH } from '../abi/fcntl.ts'
import { orUndefined } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { openat } from '../kernel/files.ts'
import { parseCgroups } from '../kernel/procfs/cgroup.ts'
import { type Mount, parseMountinfo } from '../kernel/procfs/mountinfo.ts'

/** The cgroups of a process, for each hierarchy that is mounted if the process is below our own cgroup root. */
export interface InitCgroups {
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
