import { readFileSync } from 'node:fs'

/** The fields of a file such as /proc/PID/stat from the third on, proc_pid_stat(5); none if the task has ended. */
export function statFields(path: string): readonly string[] {
  try {
    const stat = readFileSync(path, 'latin1')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}

/** What a process does, as one letter; '' if it has ended. */
export const stateOf = (pid: number | string): string => statFields(`/proc/${pid}/stat`)[0] ?? ''

export const threadStateOf = (pid: number, tid: number | string): string =>
  statFields(`/proc/${pid}/task/${tid}/stat`)[0] ?? ''
