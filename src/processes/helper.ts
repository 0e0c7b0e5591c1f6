import { orElse } from '../kernel/error.ts'
import { Fd, type Handle } from '../kernel/fd.ts'
import { exitGroup } from '../kernel/process.ts'
import { receive, send, waitReadable } from '../kernel/socket.ts'

/** The inherited descriptor of a mounter's or walker's socket. */
const SOCKET = 3
/** Maximum size of a request in bytes: the strings of mount(2), a page each, in JSON. */
export const REQUEST_LIMIT = 128 * 1024
/** Requests after which the thread yields to the event loop; a thread that never yields leaks memory. */
const TURNS = 100

/** Serves requests one after the other until the engine closes its end of the socket; then the process exits. */
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

/** Sends an answer. @param to the socket that came with the request */
export function reply<R>(to: Handle, answer: R, fds: readonly Handle[] = []): void {
  // The engine no longer waits; what was made ends with its descriptor.
  orElse(undefined, () => send(to, Buffer.from(JSON.stringify(answer)), fds))
}

/**
 * Runs `action`, which returns a mounter from a container or request to its resting state.
 *
 * @throws {Error} if it fails; never a SyscallError, which would be sent as an answer, since the process must then
 *   end
 */
export function restoreOrDie(action: () => void): void {
  try {
    action()
  } catch (error) {
    throw new Error(`Cannot come home: ${(error as Error).message}`)
  }
}
