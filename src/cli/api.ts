import { dirname } from 'node:path'
import { ApiServer } from '../api/api-server.ts'
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

export async function apiCommand({
  socket,
  feed,
}: {
  readonly socket?: string
  readonly feed?: string
}): Promise<void> {
  const passed = socket === undefined ? passedSockets(process.env) : []
  if (socket === undefined && passed.length === 0)
    throw new UsageError(
      'Cannot answer: systemd has passed no socket; start intercede-api.socket, or name one with --socket',
    )
  if (socket !== undefined) requireSafeDirectories([dirname(socket)])
  const fds = socket === undefined ? passed : [listenExclusively(socket).release()]
  const end = (): void => {
    server.close()
    if (socket !== undefined) removeSocket(socket)
  }
  const server = new ApiServer({ daemon: new DaemonLink(feed), onIdle: socket === undefined ? end : undefined, say })
  process.once('SIGTERM', end)
  process.once('SIGINT', () => {
    process.exitCode = STATUS.interrupted
    end()
  })
  for (const fd of fds) await server.listen(fd)
}
