// Reads /proc/PID/stat: for tests that wait for the state of a process or thread.

import { readFileSync } from 'node:fs'
import { STAT, statFieldAt } from '../../src/kernel/procfs/status.ts'

/** The fields of a file such as /proc/PID/stat from the third on, proc_pid_stat(5); none if the task has ended. */
export function statFields(path: string): readonly string[] {
  try {
    const stat = readFileSync(path)
    return stat.toString('latin1', statFieldAt(stat, stat.length, STAT.state)).split(' ')
  } catch {
    return []
  }
}

/** What a process does, as one letter; '' if it has ended. */
export const stateOf = (pid: number | string): string => statFields(`/proc/${pid}/stat`)[0] ?? ''

export const threadStateOf = (pid: number, tid: number | string): string =>
  statFields(`/proc/${pid}/task/${tid}/stat`)[0] ?? ''
