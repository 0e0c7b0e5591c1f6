import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { isErrno } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { connectUnix, listenUnix, type SocketType } from '../../kernel/socket.ts'

/**
 * Listens at `path`, for root only, and removes the socket file of a daemon that was killed.
 *
 * @throws {Error} if another file is there, or the socket of a daemon that still answers
 */
export function listenExclusively(path: string, type: SocketType = 'stream'): Fd {
  const refuse = (why: string): Error => new Error(`Cannot listen on "${path}": ${why}, or name another path`)
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o711 })
  } catch (error) {
    throw refuse(`${(error as Error).message}; make its directory`)
  }
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there && !there.isSocket()) throw refuse('it is there already and no socket; move it away')
  if (there && answers(path, type)) throw refuse('another intercede serves it; stop that')
  rmSync(path, { force: true })
  const socket = listenUnix(path, type)
  chmodSync(path, 0o600)
  return socket
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
