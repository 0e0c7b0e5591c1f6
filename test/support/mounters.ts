// Finds the mounters of an engine, and ends the engine: for tests of what outlives what.

import { readdirSync, readFileSync } from 'node:fs'
import { type Host, until } from './host.ts'
import { descriptorsOf } from './hostile.ts'
import { stateOf, statFields } from './stat.ts'

/** One that hangs has been killed and has no memory, so no words either. */
function isMounter(pid: string): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
    return words.includes('mounter/main') || (words === '' && stateOf(Number(pid)) === 'D')
  } catch {
    return false
  }
}

/** Processes that an engine has started to mount. */
export const mounters = (engine: number): string[] =>
  readdirSync('/proc').filter((pid) => statFields(`/proc/${pid}/stat`)[1] === String(engine) && isMounter(pid))

const countOf = (engine: number, kind: string): number =>
  descriptorsOf(engine).filter((link) => link.startsWith(kind)).length

/** How many sockets an engine holds: the threads that it makes meanwhile hold none, a mounter one. */
export const socketsOf = (engine: number): number => countOf(engine, 'socket:')
/** How many contexts of fsopen(2) an engine holds. */
export const contextsOf = (engine: number): number => countOf(engine, 'anon_inode:[fscontext]')

/** @returns once the next one serves: of engines that end before, the keeper takes ten in a row for a reason to wait */
export async function endEngine(host: Host): Promise<void> {
  const before = host.restarts
  host.mayLoseEngine = true
  process.kill(host.enginePid, 'SIGKILL')
  await until('the next engine serves', () => host.restarts > before)
  host.mayLoseEngine = false
}
