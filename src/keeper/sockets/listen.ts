import { chmodSync, lstatSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { isErrno } from '../../kernel/error.ts'
import { type Fd, guarded } from '../../kernel/fd.ts'
import { connectUnix, listenUnix, type SocketType } from '../../kernel/socket.ts'

/** The name of the usual directory of sockets, which is made: /run is empty after each boot. */
const USUAL = 'intercede'

/**
 * Listens at `path`, for root only, and removes the socket file of a daemon that was killed.
 *
 * @throws {Error} if another file is there, or the socket of a daemon that still answers
 */
export function listenExclusively(path: string, type: SocketType = 'stream'): Fd {
  const refuse = (why: string): Error => new Error(`Cannot listen on "${path}": ${why}, or name another path`)
  requireDirectory(dirname(path), refuse)
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there && !there.isSocket()) throw refuse('it is there already and no socket; move it away')
  if (there && answers(path, type)) throw refuse('another intercede serves it; stop that')
  try {
    rmSync(path, { force: true })
    const socket = listenUnix(path, type)
    return guarded(socket, () => {
      chmodSync(path, 0o600)
      return socket
    })
  } catch (error) {
    throw refuse(`${(error as Error).message}; let root write to its directory`)
  }
}

/** Makes the usual directory. One of another name that is not there may be mistyped, and would stay for ever. */
function requireDirectory(directory: string, refuse: (why: string) => Error): void {
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return
  if (basename(directory) !== USUAL) throw refuse(`"${directory}" is no directory; make it first`)
  try {
    mkdirSync(directory, { mode: 0o711 })
  } catch (error) {
    throw refuse(`${(error as Error).message}; make its directory`)
  }
}

function answers(path: string, type: SocketType): boolean {
  try {
    connectUnix(path, type)[Symbol.dispose]()
    return true
  } catch (error) {
    if (isErrno(error, 'ECONNREFUSED')) return false
    // Somebody listens there, for connections of another type.
    if (isErrno(error, 'EPROTOTYPE')) return true
    throw error
  }
}
