import { readdirSync } from 'node:fs'
import { startTime } from '../../kernel/process.ts'
import { killCgroup, removeCgroup } from './cgroup.ts'
import type { Hierarchies } from './hierarchies.ts'

/** A name is `PID-STARTTIME` of the run that made it, see `ownName`. */
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

/** Kills and removes what a run left behind that was killed itself: its container is all that can outlive it. */
export function removeLeftovers({ unified, memory }: Hierarchies): string[] {
  const families = memory ? [unified, memory] : [unified]
  const names = [...new Set(families.flatMap(namesIn))].filter((name) => isLeftover(name))
  for (const name of names) {
    killCgroup(`${unified}/${name}`)
    for (const family of families) removeCgroup(`${family}/${name}`)
  }
  return names
}
