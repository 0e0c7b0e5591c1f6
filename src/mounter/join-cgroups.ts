import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseCgroups } from '../kernel/procfs/cgroup.ts'
import { parseMountinfo } from '../kernel/procfs/mountinfo.ts'
import { restoreOrDie } from '../processes/restore.ts'

/** Where hierarchies are mounted from their root: `""` for v2, `devices` for the controller of v1. */
export function cgroupMounts(mountinfo: string): ReadonlyMap<string, string> {
  const mounts = new Map<string, string>()
  for (const { root, point, type, superOptions } of parseMountinfo(mountinfo)) {
    if (root !== '/') continue
    if (type === 'cgroup2') mounts.set('', point)
    if (type === 'cgroup' && superOptions.includes('devices')) mounts.set('devices', point)
  }
  return mounts
}

/** Where the hierarchies are that can have device rules. */
export const hierarchies = (): readonly string[] => [
  ...cgroupMounts(readFileSync('/proc/thread-self/mountinfo', 'latin1')).values(),
]

/** @param cgroup the text of `/proc/TID/cgroup` */
export function groupPaths(cgroup: string, mounts: ReadonlyMap<string, string>): readonly string[] {
  return parseCgroups(cgroup).flatMap(({ controllers, path }) => {
    const mount = [...mounts].find(([name]) => (name === '' ? controllers.length === 0 : controllers.includes(name)))
    return mount ? [`${mount[1]}${path}`] : []
  })
}

/**
 * The directories of the groups that can have device rules: cgroup v2, and the controller of v1. One that is gone by now is
 * named all the same: the task has moved, and nothing may be done without its rules.
 *
 * @param task the text of `/proc/TID/cgroup`
 * @throws {RangeError} if the task is in a group that we cannot name, or the text is cut off
 */
export function deviceGroups(task: string): readonly string[] {
  const mounts = cgroupMounts(readFileSync('/proc/thread-self/mountinfo', 'latin1'))
  // A hierarchy that is covered by another mount cannot be joined, nor did the runtime set anything in it.
  const visible = new Map([...mounts].filter(([, point]) => existsSync(`${point}/cgroup.procs`)))
  const paths = groupPaths(task, visible)
  const outside = paths.find((path) => path.includes('/../'))
  if (outside !== undefined) throw new RangeError(`Cannot join ${outside}: it is outside of our cgroup namespace`)
  return paths
}

/** Is a group, or one above it, being frozen, or frozen already? Who joins it then stops at once. */
export function isFrozen(group: string): boolean {
  const freezer = (path: string): Buffer => Buffer.from(`${path}/cgroup.freeze`, 'latin1')
  for (let path = group; existsSync(freezer(path)); path = dirname(path))
    if (readFileSync(freezer(path), 'latin1').startsWith('1')) return true
  return false
}

const join = (groups: readonly string[]): void => {
  for (const group of groups) writeFileSync(Buffer.from(`${group}/cgroup.procs`, 'latin1'), '0')
}

/** The device rules of the caller could not be put on us, so nothing may be opened for it. */
export class NotJoined extends Error {
  override readonly name = 'NotJoined'
}

/**
 * Runs `action` in the groups of a task, with all of this process: so its device rules bind what the action opens.
 *
 * @param task the text of `/proc/TID/cgroup`
 * @throws {NotJoined} if a group cannot be joined: then nothing was done
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
    // To join takes the kernel milliseconds, so only what was left.
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
