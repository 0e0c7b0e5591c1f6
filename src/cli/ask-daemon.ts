import { accessSync, constants, fstatSync, readSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { errnoName } from '../abi/errno.ts'
import { escaped } from '../calls/escape.ts'
import {
  ANSWER,
  CONTROL_SOCKET,
  CONTROL_VERSION,
  type ControlAnswer,
  type ControlRequest,
  type OrderAnswer,
} from '../keeper/control/protocol.ts'
import { ignoring, isErrno, orElse, SyscallError } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { connectUnix, receive, send, waitReadable } from '../kernel/socket.ts'
import { FEED_SOCKET } from '../processes/installation.ts'
import { connect, DaemonSilent } from '../reader/feed.ts'
import { usualSocket } from './open-feed.ts'
import { say } from './print.ts'

/** Limit of the wait: a new program is checked for half a minute at most, and hand-overs are waited for. */
const ANSWER_MS = 90_000
/** After that it is said what is waited for. */
const SILENT_MS = 2000

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket; start the service, or "intercede serve" as root, or name its socket with --control',
  ECONNREFUSED:
    'no daemon answers there; start the service, or "intercede serve" as root, or name its socket with --control',
  EACCES: 'only root of the host may; use sudo',
  EPROTOTYPE: 'it is a socket of another kind; name control.sock with --control',
}

/** Returns the socket that is named, or that beside a named feed.sock, or that of the host's daemon. */
export const controlSocket = (control: string | undefined, feed?: string): string =>
  control ?? (feed === undefined ? CONTROL_SOCKET : join(dirname(feed), 'control.sock'))

/** Returns the socket of the feed of the daemon that takes orders there. */
export const feedBeside = (control: string): string => join(dirname(control), 'feed.sock')

/**
 * Says first whether we may give orders at all. Whatever else may be wrong is said later, by who does it.
 *
 * @throws {Error} if we may not
 */
export function requireOrders(path: string): void {
  if (path === CONTROL_SOCKET && usualSocket() !== FEED_SOCKET)
    throw new Error(
      'Cannot give orders: a daemon of --user takes none; change its configuration and send it SIGHUP, "intercede status" has its pid',
    )
  try {
    accessSync(path, constants.W_OK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES')
      throw new Error(`Cannot give orders at "${path}": ${REMEDIES.EACCES}`)
  }
}

function connected(path: string): Fd {
  try {
    return connectUnix(path, 'packet')
  } catch (error) {
    const remedy = error instanceof SyscallError ? REMEDIES[errnoName(error.errno)] : undefined
    throw new Error(`Cannot give orders at "${path}": ${remedy ?? (error as Error).message}`)
  }
}

/** Sends the request. A daemon that refuses who we are has answered already. */
const tell = (connection: Fd, request: ControlRequest): void =>
  ignoring(['EPIPE', 'ECONNRESET'], () =>
    send(connection, Buffer.from(JSON.stringify({ version: CONTROL_VERSION, ...request }))),
  )

function read(file: Fd): ControlAnswer {
  const bytes = Buffer.alloc(fstatSync(file.raw).size)
  for (let done = 0; done < bytes.length; ) done += readSync(file.raw, bytes, done, bytes.length - done, done)
  return JSON.parse(bytes.toString()) as ControlAnswer
}

/** A daemon that has refused us without reading what we sent makes the first attempt fail: its answer is there. */
function take(connection: Fd): Fd | undefined {
  const bytes = Buffer.alloc(64)
  const attempt = (): Fd | undefined => {
    const { length = 0, fds = [] } = receive(connection, bytes) ?? {}
    if (bytes.toString('latin1', 0, length) === ANSWER) return fds[0]
    for (const fd of fds) fd[Symbol.dispose]()
    return undefined
  }
  try {
    return attempt()
  } catch (error) {
    if (!isErrno(error, 'ECONNRESET')) throw error
    return attempt()
  }
}

function answerOn(connection: Fd, path: string): ControlAnswer {
  if (!waitReadable(connection, SILENT_MS))
    say('The daemon has not answered yet: it answers once its engine does, or another one serves; waiting')
  if (!waitReadable(connection, ANSWER_MS))
    throw new Error(`Cannot wait for the daemon at "${path}" any longer: it does not answer; see "intercede status"`)
  const file = take(connection)
  if (!file)
    throw new Error(
      `Cannot read an answer at "${path}": the daemon has ended, or takes no orders there; see its log, or name control.sock with --control`,
    )
  using owned = file
  return read(owned)
}

/**
 * Asks the daemon whose feed.sock is beside this socket for its memories, which it gives at once: an order may take
 * long, so it cannot show that the daemon hangs.
 */
function requireAwake(path: string): void {
  try {
    connect(feedBeside(path))[Symbol.dispose]()
  } catch (error) {
    // Whatever else is wrong there, who takes the order says it better.
    if (error instanceof DaemonSilent) throw new Error(`Cannot give orders at "${path}": ${error.why}`)
  }
}

/** Takes the name by which the record of an order knows us: newer Node calls its first thread MainThread. */
export const nameOurselves = (): void => orElse(undefined, () => writeFileSync('/proc/self/comm', 'intercede'))

/**
 * Gives the daemon an order, and waits for its answer.
 *
 * @throws {Error} if it refuses, with its reason
 */
export function askDaemon<T extends OrderAnswer>(path: string, request: ControlRequest): T {
  nameOurselves()
  using connection = connected(path)
  requireAwake(path)
  tell(connection, request)
  const said = answerOn(connection, path)
  if (said.version !== CONTROL_VERSION)
    throw new Error(
      `Cannot read the answer at "${path}": the daemon has another version (${said.version}, not ${CONTROL_VERSION}); use its own intercede`,
    )
  // It may quote the id of a container.
  if ('refusal' in said) throw new Error(escaped(said.refusal))
  return said.answer as T
}
