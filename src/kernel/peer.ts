import { SO_PEERPIDFD, SOL_SOCKET } from '../abi/socket.ts'
import { Fd } from './fd.ts'
import type { Handle } from './handle.ts'
import { libc } from './libc.ts'
import { peerCredentials } from './socket.ts'

const libcGetsockopt = libc.func('int getsockopt(int fd, int level, int name, uint8_t *value, uint32_t *length)')

export interface Peer extends Disposable {
  readonly pid: number
  readonly pidfd: Handle
}

/**
 * Returns the process that connected, with a pidfd, which cannot refer to a later process of the same number.
 *
 * @returns undefined if the process is gone, or before Linux 6.5
 * @see unix(7) SO_PEERPIDFD
 */
export function peerProcess(connection: Handle): Peer | undefined {
  const value = new Int32Array(1)
  const length = new Uint32Array([4])
  if (libcGetsockopt(connection.raw, SOL_SOCKET, SO_PEERPIDFD, new Uint8Array(value.buffer), length) !== 0)
    return undefined
  const pidfd = new Fd(value[0]!)
  return { pid: peerCredentials(connection).pid, pidfd, [Symbol.dispose]: () => pidfd[Symbol.dispose]() }
}
