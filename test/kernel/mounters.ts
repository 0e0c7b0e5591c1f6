import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** The fields of /proc/PID/stat behind the name: the state, the parent, ... */
function fieldsOf(pid: string): readonly string[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}

export const stateOf = (pid: string): string | undefined => fieldsOf(pid)[0]

function isMounter(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('mounter-main')
  } catch {
    return false
  }
}

/** Processes that an engine has started to mount. */
export const mounters = (engine: number): string[] =>
  readdirSync('/proc').filter((pid) => fieldsOf(pid)[1] === String(engine) && isMounter(pid))

/** How many sockets an engine holds: the threads that it makes meanwhile hold none, a mounter one. */
export const socketsOf = (engine: number): number =>
  readdirSync(`/proc/${engine}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${engine}/fd/${fd}`).startsWith('socket:')
    } catch {
      return false
    }
  }).length
