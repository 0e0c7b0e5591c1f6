import { Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'
import { exitGroup } from '../kernel/process.ts'
import { receive, send, waitReadable } from '../kernel/socket.ts'

/** Where a mounter or a walker finds its end of the socket. */
const SOCKET = 3
/** Room for the strings of mount(2), a page each, in JSON. */
export const REQUEST_LIMIT = 128 * 1024
/** A thread that never yields leaks. */
const TURNS = 100

/** The work of a mounter or a walker: serves what it is asked, one after the other, as long as there is an engine. */
export async function serveRequests<R>(serve: (request: R, fds: readonly Fd[]) => void): Promise<never> {
  const socket = new Fd(SOCKET)
  const bytes = new Uint8Array(REQUEST_LIMIT)
  for (let turn = 1; ; turn++) {
    if (!waitReadable(socket, -1)) continue
    const message = receive(socket, bytes)
    if (!message) continue
    if (message.length === 0) exitGroup(0)
    serve(JSON.parse(Buffer.from(bytes.subarray(0, message.length)).toString()) as R, message.fds)
    for (const fd of message.fds) fd[Symbol.dispose]()
    if (turn % TURNS === 0) await new Promise((resolve) => setImmediate(resolve))
  }
}

/** @param to came with the request */
export function reply<R>(to: Handle, said: R, fds: readonly Handle[] = []): void {
  try {
    send(to, Buffer.from(JSON.stringify(said)), fds)
  } catch {
    // Nobody waits any more: what was made goes with its descriptor.
  }
}
