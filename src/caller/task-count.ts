import { readdirSync } from 'node:fs'
import { groupFiles, type ReadGroup } from './group-files.ts'

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
  const read = groupFiles(group)
  const current = read(0, 'pids.current')
  if (typeof current === 'string') return Number.parseInt(current, 10)
  const own = threadsIn(read, '')
  if (own === undefined) return undefined
  return below(group, read).reduce((sum, path) => sum + (threadsIn(read, path) ?? 0), own)
}

function threadsIn(read: ReadGroup, path: string): number | undefined {
  const threads = read(0, `${path}cgroup.threads`)
  return typeof threads === 'string' ? threads.split('\n').length - 1 : undefined
}

/** The paths of the groups below, each with a slash at its end. */
function below(group: number, read: ReadGroup): readonly string[] {
  const stat = read(0, 'cgroup.stat')
  if (typeof stat !== 'string' || stat.startsWith('nr_descendants 0\n')) return []
  const paths = ['']
  for (let next = 0; next < paths.length && paths.length < GROUPS_LIMIT; next++) {
    for (const name of directoriesIn(`/proc/self/fd/${group}/${paths[next]}`)) paths.push(`${paths[next]}${name}/`)
  }
  return paths.slice(1, GROUPS_LIMIT)
}

function directoriesIn(path: string): readonly string[] {
  try {
    return readdirSync(Buffer.from(path, 'latin1'), { withFileTypes: true, encoding: 'latin1' })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  } catch {
    return []
  }
}
