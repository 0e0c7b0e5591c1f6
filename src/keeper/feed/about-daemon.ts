import { uptime } from 'node:os'
import { startTime } from '../../kernel/process.ts'
import { ticksPerSecond } from '../../kernel/system-info.ts'

/** Returns what a daemon reports about its process. A reload continues in the same process, with another program. */
export function aboutDaemon(): { readonly pid: number; readonly since: number; readonly reloaded: number } {
  const now = Date.now()
  const age = uptime() - (startTime('self') ?? 0) / ticksPerSecond()
  return { pid: process.pid, since: Math.round(now - 1000 * age), reloaded: Math.round(now - 1000 * process.uptime()) }
}
