import { readFileSync } from 'node:fs'
import { pageSize, ticksPerSecond } from '../kernel/system-info.ts'

export interface ProcessStats {
  readonly cpuSeconds: number
  readonly residentBytes: number
  readonly threads: number
  /** Seconds since 1970. */
  readonly start: number
}

const bootTime = (): number => Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1] ?? 0)

/**
 * Reads the resources of a process; undefined if there is no process with this pid, or we may not see it.
 *
 * @see proc_pid_stat(5): 14 utime, 15 stime, 20 num_threads, 22 starttime, 24 rss
 */
export function processStats(pid: number): ProcessStats | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The second field is the program's name, which may contain anything except NUL.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const field = (number: number): number => Number(fields[number - 3])
    return {
      cpuSeconds: (field(14) + field(15)) / ticksPerSecond(),
      residentBytes: field(24) * pageSize(),
      threads: field(20),
      start: bootTime() + field(22) / ticksPerSecond(),
    }
  } catch {
    return undefined
  }
}

/** Sums up the resources of several processes; the start is that of the first. */
export const sumOfStats = (all: readonly ProcessStats[]): ProcessStats => ({
  cpuSeconds: all.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
  residentBytes: all.reduce((sum, { residentBytes }) => sum + residentBytes, 0),
  threads: all.reduce((sum, { threads }) => sum + threads, 0),
  start: Math.min(...all.map(({ start }) => start)),
})
