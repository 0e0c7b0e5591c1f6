import { type Dir, type Dirent, opendirSync } from 'node:fs'
import { cgroupFiles, type ReadCgroup } from './cgroup-files.ts'

/** Groups within groups, that a container makes as it likes. */
const GROUPS_LIMIT = 64

/**
 * How many tasks are in a control group and those below it: its `pids.current`; where the unified hierarchy has no such
 * controller, they are counted, up to some thousands in each of a few groups.
 *
 * @param group a descriptor of its directory
 * @returns undefined if nothing tells, or the group is gone
 */
export function countTasks(group: number): number | undefined {
  const read = cgroupFiles(group)
  const current = read(0, 'pids.current')
  if (typeof current === 'string') return Number.parseInt(current, 10)
  const own = threadsIn(read, '')
  if (own === undefined) return undefined
  return below(group, read).reduce((sum, path) => sum + (threadsIn(read, path) ?? 0), own)
}

function threadsIn(read: ReadCgroup, path: string): number | undefined {
  const threads = read(0, `${path}cgroup.threads`)
  return typeof threads === 'string' ? threads.split('\n').length - 1 : undefined
}

/** The paths of the groups below, each with a slash at its end. */
function below(group: number, read: ReadCgroup): readonly string[] {
  const stat = read(0, 'cgroup.stat')
  if (typeof stat !== 'string' || stat.startsWith('nr_descendants 0\n')) return []
  const paths = ['']
  for (let next = 0; next < paths.length && paths.length < GROUPS_LIMIT; next++) {
    for (const name of directoriesIn(`/proc/self/fd/${group}/${paths[next]}`, GROUPS_LIMIT - paths.length))
      paths.push(`${paths[next]}${name}/`)
  }
  return paths.slice(1)
}

/** None in a group that is gone. */
function directoriesIn(path: string, most: number): readonly string[] {
  let directory: Dir | undefined
  try {
    directory = opendirSync(Buffer.from(path, 'latin1'), { encoding: 'latin1' })
    return firstDirectories(directory, most)
  } catch {
    return []
  } finally {
    directory?.closeSync()
  }
}

/** A container may have made a hundred thousand, and to read them all would take seconds, ten times a second. */
export function firstDirectories(
  directory: { readSync(): Pick<Dirent, 'name' | 'isDirectory'> | null },
  most: number,
): readonly string[] {
  const names: string[] = []
  while (names.length < most) {
    const entry = directory.readSync()
    if (!entry) break
    if (entry.isDirectory()) names.push(entry.name)
  }
  return names
}
