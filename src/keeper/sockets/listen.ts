import {
  chmodSync,
  chownSync,
  closeSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs'
import { basename, dirname } from 'node:path'
import { O_NOFOLLOW, O_PATH } from '../../abi/fcntl.ts'
import { isErrno } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { connectUnix, listenUnix, type SocketType } from '../../kernel/socket.ts'

/** The name of the default socket directory, which we make: /run is empty after each boot. */
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
  if (there && !isOurs(there)) throw refuse(`the socket that is there belongs to user ${there.uid}; remove it`)
  // So nobody else can ever connect, and no mode has to be changed by name.
  const before = process.umask(0o177)
  try {
    rmSync(path, { force: true })
    return listenUnix(path, type)
  } catch (error) {
    throw refuse(`${(error as Error).message}; let root write to its directory`)
  } finally {
    process.umask(before)
  }
}

const isOurs = (stat: Stats): boolean => stat.isSocket() && stat.uid === process.geteuid?.()

/** Removes our socket file at `path`; any other file stays. */
export function removeSocket(path: string): void {
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there && isOurs(there)) rmSync(path, { force: true })
}

/**
 * Lets a group connect to our socket at `path`. Another user may have put a link to any file there since then, so this
 * changes the mode of an open socket.
 *
 * @throws {Error} of node:fs
 */
export function shareSocket(path: string, gid: number): void {
  const file = openSync(path, O_PATH | O_NOFOLLOW)
  try {
    if (!isOurs(fstatSync(file))) return
    chownSync(`/proc/self/fd/${file}`, 0, gid)
    chmodSync(`/proc/self/fd/${file}`, 0o660)
  } finally {
    closeSync(file)
  }
}

/** Makes the default directory. Another missing directory may be a typing error, and would stay for ever. */
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
    // A process listens there, for connections of another type.
    if (isErrno(error, 'EPROTOTYPE')) return true
    throw error
  }
}
