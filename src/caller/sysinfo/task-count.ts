import { type Dir, type Dirent, opendirSync } from 'node:fs'
import { cgroupFiles, type ReadCgroup } from './cgroup-files.ts'

/** Maximum number of descendant cgroups that are counted, since a container makes as many as it likes. */
const GROUPS_LIMIT = 64

/**
 * Returns the number of tasks in a cgroup and its descendants: its `pids.current`. If the unified hierarchy lacks the
 * pids controller, the tasks are counted one by one, up to some thousands in each of GROUPS_LIMIT cgroups.
 *
 * @param group a descriptor of the cgroup's directory
 * @returns undefined if no file tells the number, or the cgroup was removed
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

/** Returns the relative paths of descendant cgroups, each with a slash at its end. */
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

/** Returns the names of subdirectories; none if the cgroup was removed. */
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

/**
 * Returns the first `most` subdirectories. A container may have made a hundred thousand: reading them all would take
 * seconds, ten times a second.
 */
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
