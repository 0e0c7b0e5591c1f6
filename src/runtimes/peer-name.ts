import { readFileSync } from 'node:fs'
import type { Handle } from '../kernel/handle.ts'
import { peerCredentials } from '../kernel/socket.ts'

/** Names the process that connected, as it is now: later the process may have ended, and its name is gone. */
export function peerName(connection: Handle): string {
  const { pid, uid } = peerCredentials(connection)
  return `${commandOf(pid) ?? 'a process'} (pid ${pid}, uid ${uid})`
}

/** The name of a process in quotes, since the process itself chooses it. @returns undefined if there is none */
function commandOf(pid: number): string | undefined {
  try {
    return JSON.stringify(readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd())
  } catch {
    // It has ended, or is in another pid namespace, where its number is 0 for us.
    return undefined
  }
}
