import { dirname } from 'node:path'
import { type ApiPlace, ApiServer, type TcpAddress } from '../api/api-server.ts'
import { DaemonLink } from '../api/daemon-link.ts'
import { requireSafeDirectories } from '../doctor/own-files.ts'
import { listenExclusively, removeSocket } from '../keeper/sockets/listen.ts'
import { say } from './print.ts'
import { STATUS, UsageError } from './usage.ts'

/** The first descriptor that systemd passes, SD_LISTEN_FDS_START of sd-daemon.h. */
const FIRST = 3

/** Returns the descriptors of the sockets that systemd passes. @see sd_listen_fds(3) */
function passedSockets({ LISTEN_PID: pid, LISTEN_FDS: count }: NodeJS.ProcessEnv): readonly number[] {
  if (pid !== String(process.pid)) return []
  return Array.from({ length: Number(count) || 0 }, (_, index) => FIRST + index)
}

interface ApiCommandOptions {
  readonly socket?: string
  readonly listen?: TcpAddress
  readonly feed?: string
}

/** Returns where to answer. */
function places({ socket, listen }: ApiCommandOptions): readonly ApiPlace[] {
  if (socket !== undefined) requireSafeDirectories([dirname(socket)])
  const named = [
    ...(socket === undefined ? [] : [{ fd: listenExclusively(socket).release() }]),
    ...(listen ? [listen] : []),
  ]
  return named.length > 0 ? named : passedSockets(process.env).map((fd) => ({ fd }))
}

export async function apiCommand(options: ApiCommandOptions): Promise<void> {
  const { socket, listen, feed } = options
  const isPassed = socket === undefined && listen === undefined
  const all = places(options)
  if (all.length === 0)
    throw new UsageError(
      'Cannot answer: systemd has passed no socket; start intercede-api.socket, or name one with --socket',
    )
  const end = (): void => {
    server.close()
    if (socket !== undefined) removeSocket(socket)
  }
  const server = new ApiServer({ daemon: new DaemonLink(feed), onIdle: isPassed ? end : undefined, say })
  process.once('SIGTERM', end)
  process.once('SIGINT', () => {
    process.exitCode = STATUS.interrupted
    end()
  })
  for (const place of all) await server.listen(place)
}
