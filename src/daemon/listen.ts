import { lstatSync, mkdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { errnos } from '../abi/errno.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { connectUnix, listenUnix } from '../kernel/socket.ts'

/**
 * Listens at `path`, and removes what a daemon that was killed left there.
 *
 * @throws {Error} if something else is there, or a daemon that still answers
 */
export function listenExclusively(path: string): Fd {
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 })
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there && !there.isSocket()) throw new Error(`Cannot listen on "${path}": it is there already and no socket`)
  if (there && answers(path)) throw new Error(`Cannot listen on "${path}": another intercede serves it`)
  rmSync(path, { force: true })
  return listenUnix(path)
}

function answers(path: string): boolean {
  try {
    connectUnix(path)[Symbol.dispose]()
    return true
  } catch (error) {
    if (error instanceof SyscallError && error.errno === errnos.ECONNREFUSED) return false
    throw error
  }
}
