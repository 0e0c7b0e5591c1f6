import { readdirSync } from 'node:fs'
import { startTime } from '../../kernel/process.ts'
import { killCgroup, removeCgroup } from './cgroup.ts'
import type { Hierarchies } from './hierarchies.ts'

/** Tells whether the run that made a cgroup has ended. The name is `PID-STARTTIME` of the run, see `ownName`. */
export function isLeftover(name: string, startTimeOf: (pid: number) => number | undefined = startTime): boolean {
  const [, pid, started] = /^(\d+)-(\d+)$/.exec(name) ?? []
  return pid !== undefined && startTimeOf(Number(pid)) !== Number(started)
}

function namesIn(family: string): string[] {
  try {
    return readdirSync(family, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
  } catch {
    return []
  }
}

/** Kills and removes the cgroups of runs that were killed themselves; only their containers can outlive them. */
export function removeLeftovers({ unified, memory }: Hierarchies): string[] {
  const families = memory ? [unified, memory] : [unified]
  const names = [...new Set(families.flatMap(namesIn))].filter((name) => isLeftover(name))
  for (const name of names) {
    killCgroup(`${unified}/${name}`)
    for (const family of families) removeCgroup(`${family}/${name}`)
  }
  return names
}
