import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { parseCgroups } from '../kernel/procfs/cgroup.ts'
import { parseMountinfo } from '../kernel/procfs/mountinfo.ts'
import { restoreOrDie } from '../processes/restore.ts'

/**
 * Returns where cgroup hierarchies are mounted with their root: key `""` for v2, `devices` for v1's devices
 * controller.
 */
export function cgroupMounts(mountinfo: string): ReadonlyMap<string, string> {
  const mounts = new Map<string, string>()
  for (const { root, point, type, superOptions } of parseMountinfo(mountinfo)) {
    if (root !== '/') continue
    if (type === 'cgroup2') mounts.set('', point)
    if (type === 'cgroup' && superOptions.includes('devices')) mounts.set('devices', point)
  }
  return mounts
}

/** Returns the mount points of the hierarchies that can have device rules. */
export const hierarchies = (): readonly string[] => [
  ...cgroupMounts(readFileSync('/proc/thread-self/mountinfo', 'latin1')).values(),
]

/**
 * Returns the directories of a task's cgroups in these mounts.
 *
 * @param cgroup the text of `/proc/TID/cgroup`: hierarchy:controllers:path
 */
export function groupPaths(cgroup: string, mounts: ReadonlyMap<string, string>): readonly string[] {
  return parseCgroups(cgroup).flatMap(({ controllers, path }) => {
    const mount = [...mounts].find(([name]) => (name === '' ? controllers.length === 0 : controllers.includes(name)))
    return mount ? [`${mount[1]}${path}`] : []
  })
}

/** Returns `cgroupMounts` of this process, without mounts that other mounts hide: nobody can join a cgroup there. */
export function visibleMounts(): ReadonlyMap<string, string> {
  const mounts = cgroupMounts(readFileSync('/proc/thread-self/mountinfo', 'latin1'))
  return new Map([...mounts].filter(([, point]) => existsSync(`${point}/cgroup.procs`)))
}

/**
 * Returns the directories of a task's cgroups that can have device rules: in cgroup v2 and in v1's devices
 * controller. A cgroup that was removed meanwhile is included: the task has moved, and nothing may be done without
 * its device rules.
 *
 * @param task the text of `/proc/TID/cgroup`
 * @param mounts where the hierarchies are mounted
 * @throws {RangeError} if a cgroup of the task is outside of our cgroup namespace, or the text is cut off
 */
export function deviceGroups(task: string, mounts = visibleMounts()): readonly string[] {
  const paths = groupPaths(task, mounts)
  const outside = paths.find((path) => path.includes('/../'))
  if (outside !== undefined) throw new RangeError(`Cannot join ${outside}: it is outside of our cgroup namespace`)
  return paths
}

const join = (groups: readonly string[]): void => {
  for (const group of groups) writeFileSync(Buffer.from(`${group}/cgroup.procs`, 'latin1'), '0')
}

/** Thrown when this process could not join the caller's cgroups, so that the caller's device rules do not bind it. */
export class NotJoined extends Error {
  override readonly name = 'NotJoined'
}

/**
 * Runs `action` with this process in the cgroups of a task, whose device rules then bind what the action opens.
 *
 * @param task the text of `/proc/TID/cgroup`
 * @throws {NotJoined} if a cgroup cannot be joined; then the action has not run
 */
export function insideCgroupsOf<T>(task: string, action: () => T): T {
  const own = deviceGroups(readFileSync('/proc/self/cgroup', 'latin1'))
  const theirs = groupsToJoin(task, own)
  try {
    join(theirs)
  } catch (error) {
    restoreOrDie(() => join(own))
    throw new NotJoined((error as Error).message)
  }
  try {
    return action()
  } finally {
    // Joining a cgroup takes the kernel milliseconds, so this happens only if one was joined.
    if (theirs.length > 0) restoreOrDie(() => join(own))
  }
}

function groupsToJoin(task: string, own: readonly string[]): readonly string[] {
  try {
    return deviceGroups(task).filter((group) => !own.includes(group))
  } catch (error) {
    throw new NotJoined((error as Error).message)
  }
}
