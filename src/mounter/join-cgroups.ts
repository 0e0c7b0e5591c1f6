import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { parseCgroups } from '../kernel/cgroup.ts'
import { parseMountinfo } from '../kernel/procfs/mountinfo.ts'
import { restoreOrDie } from '../processes/helper.ts'

/**
 * Returns where cgroup hierarchies are mounted with their root: key `""` for v2, and the name of each of these
 * controllers for v1.
 */
export function cgroupMounts(mountinfo: string, controllers = ['devices']): ReadonlyMap<string, string> {
  const mounts = new Map<string, string>()
  for (const { root, point, type, superOptions } of parseMountinfo(mountinfo)) {
    if (root !== '/') continue
    if (type === 'cgroup2') mounts.set('', point)
    if (type !== 'cgroup') continue
    for (const name of controllers) if (superOptions.includes(name)) mounts.set(name, point)
  }
  return mounts
}

const mountsFor = (...controllers: string[]): ReadonlyMap<string, string> =>
  cgroupMounts(readFileSync('/proc/thread-self/mountinfo', 'latin1'), controllers)

/** Returns the mount points of the hierarchies that can have device rules, or to which memory is charged. */
export const hierarchies = (): readonly string[] => [...new Set(mountsFor('devices', 'memory').values())]

/** A control group that our cgroup namespace does not have. */
const OUTSIDE = /\/\.\.(\/|$)/

/** Returns the directories of a task's cgroups to which memory is charged: that of v1's memory controller, or of v2. */
function memoryGroups(task: string): readonly string[] {
  // A hierarchy that another mount hides cannot be joined.
  const mounts = [...mountsFor('memory')].filter(([, point]) => existsSync(`${point}/cgroup.procs`))
  const v1 = mounts.filter(([name]) => name === 'memory')
  return groupPaths(task, new Map(v1.length > 0 ? v1 : mounts)).filter((path) => !OUTSIDE.test(path))
}

/** What the cgroups of a task are joined for. memory: only to be charged, since each hierarchy takes milliseconds. */
export type JoinedFor = 'devicesAndMemory' | 'memory'

const groupsFor = (what: JoinedFor, task: string): readonly string[] =>
  what === 'memory' ? memoryGroups(task) : [...new Set([...deviceGroups(task), ...memoryGroups(task)])]

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
  const outside = paths.find((path) => OUTSIDE.test(path))
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
 * Runs `action` with this process in the cgroups of a task: their device rules bind what the action opens, and the
 * memory that the kernel needs for what it makes is charged to them.
 *
 * @param task the text of `/proc/TID/cgroup`
 * @throws {NotJoined} if a cgroup cannot be joined, or this process could not come back; then the action has not run
 */
export function insideCgroupsOf<T>(task: string, what: JoinedFor, action: () => T): T {
  const own = groupsOrNot(what, readFileSync('/proc/self/cgroup', 'latin1'))
  const all = groupsOrNot(what, task)
  if (all.length > own.length) throw new NotJoined('this process is outside of its own cgroup namespace')
  const theirs = all.filter((group) => !own.includes(group))
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

function groupsOrNot(what: JoinedFor, task: string): readonly string[] {
  try {
    return groupsFor(what, task)
  } catch (error) {
    throw new NotJoined((error as Error).message)
  }
}
