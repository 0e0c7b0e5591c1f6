import { readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { PROXY_FDS, PROXY_LISTENER, PROXY_MESSAGE_LIMIT, parseProxyRequest } from '../abi/lxc-proxy.ts'
import { MSG_PEEK } from '../abi/socket.ts'
import type { Fd } from '../kernel/fd.ts'
import { isSeccompListener } from '../kernel/seccomp.ts'
import { peerCredentials, receive } from '../kernel/socket.ts'
import type { Handover } from './handover.ts'

const NAME_LIMIT = 255
/** Where LXC has its containers unless it is told otherwise. */
const USUAL_PATH = '/var/lib/lxc'

/**
 * Reads from a monitor's first message of which container it forwards calls, and leaves the message in the socket for
 * the engine. The monitor and the caller wait meanwhile, so the container's init exists and its number is its own.
 *
 * @returns undefined if the monitor has sent nothing yet; 'gone' if its container ended without a call
 * @throws {Error} if it breaks the protocol
 */
export function readContainer(connection: Fd): Handover | 'gone' | undefined {
  const bytes = Buffer.alloc(PROXY_MESSAGE_LIMIT + 1)
  const message = receive(connection, bytes, MSG_PEEK)
  if (!message) return undefined
  const { length, fds } = message
  try {
    if (length === 0) return 'gone'
    const { init, cookie } = parseProxyRequest(bytes.subarray(0, length))
    const listener = fds[PROXY_LISTENER]
    if (fds.length !== PROXY_FDS || !listener || !isSeccompListener(listener))
      throw new Error('the descriptors are not a task, its memory and a listener')
    const { pid: monitor } = peerCredentials(connection)
    return { ...identity(monitor, init), metadata: linesOf(cookie), bundle: '', annotations: {}, creating: false }
  } catch (error) {
    throw new Error(`Cannot take a container of LXC: ${(error as Error).message}`)
  } finally {
    for (const fd of fds) fd[Symbol.dispose]()
  }
}

type Identity = Pick<Handover, 'id' | 'pid' | 'lxcConfig'> & { readonly isLate: true }

/** Identifies the container. If the monitor is in another pid namespace, its init's number means nothing here. */
function identity(monitor: number, init: number): Identity {
  const cmdline = readFileSync(`/proc/${monitor}/cmdline`, 'latin1')
  const name = monitorName(cmdline)
  const id = name ?? `lxc-${init}`
  const isVisible = readlinkSync(`/proc/${monitor}/ns/pid`) === readlinkSync('/proc/self/ns/pid')
  if (!isVisible) return { id, pid: 0, isLate: true }
  const file = name === undefined ? undefined : join(monitorPath(cmdline), name, 'config')
  return { id, pid: init, isLate: true, ...(file ? { lxcConfig: { root: `/proc/${monitor}/root`, file } } : {}) }
}

/**
 * Returns the container's name from its monitor's command line: `[lxc monitor] /var/lib/lxc NAME`, or in the
 * foreground the command `lxc-start` itself.
 *
 * @param cmdline the text of /proc/PID/cmdline
 */
export function monitorName(cmdline: string): string | undefined {
  const title = /^\[lxc monitor\] .* ([^ \0]+)\0*$/.exec(cmdline)?.[1]
  const option = /\0(?:-n\0?|--name[\0=])([^\0]+)/.exec(cmdline)?.[1]
  return (title ?? option)?.slice(0, NAME_LIMIT)
}

/**
 * Returns the directory of containers from the same command line.
 *
 * @param cmdline the text of /proc/PID/cmdline
 */
export function monitorPath(cmdline: string): string {
  const title = /^\[lxc monitor\] (.*) [^ \0]+\0*$/.exec(cmdline)?.[1]
  const option = /\0(?:-P\0?|--lxcpath[\0=])([^\0]+)/.exec(cmdline)?.[1]
  return title ?? option ?? USUAL_PATH
}

/**
 * Returns the lines of a cookie, in which semicolons end lines: LXC's configuration cannot hold a line break in a
 * value.
 */
export const linesOf = (cookie: Uint8Array): string => Buffer.from(cookie).toString('utf8').replaceAll(';', '\n')
