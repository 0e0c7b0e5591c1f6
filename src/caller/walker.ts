import type { Errno } from '../abi/brand.ts'
import { errnos } from '../abi/errno.ts'
import { SyscallError } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import type { Handle } from '../kernel/handle.ts'
import { MSG_DONTWAIT, receive, send, socketpair, waitReadable } from '../kernel/socket.ts'
import type { Goal, Start, Wanted } from './lookup.ts'
import type { Status } from './status.ts'

/** How long a walker may take before the call is left to the kernel, which then hangs as it would have without us. */
const PATIENCE_MS = 2000

/** The walker hangs in a file system of the container. */
export class WalkerStuck extends Error {
  override readonly name = 'WalkerStuck'
}

/** What a walker is asked; the descriptors are: where to answer, root, base and process of a `Start`. */
export interface Request {
  readonly uids: Status['uids']
  readonly gids: Status['gids']
  readonly groups: readonly number[]
  /** Hexadecimal. */
  readonly effective: string
  /** Bytes as Latin-1, without the NUL. */
  readonly path: string
  readonly wanted: Wanted
  readonly numbers: Start['numbers']
}

/** The answer: 0 with a descriptor, or an errno. */
export interface Reply {
  readonly errno: number
}

/**
 * Lets a container's walker, a process of its user namespace, look a path up as the caller.
 *
 * @param walker its socket, which many threads use: each request brings its own one for the answer
 * @throws {SyscallError} what the kernel says to the caller
 * @throws {WalkerStuck} if it does not answer in time, or its queue is full
 */
export function askWalker(walker: Handle, start: Start, status: Status, goal: Goal): Fd {
  const { uids, gids, groups, effective } = status
  const request: Request = {
    uids,
    gids,
    groups: [...groups],
    effective: effective.toString(16),
    numbers: start.numbers,
    path: Buffer.from(goal.path.subarray(0, -1)).toString('latin1'),
    wanted: goal.wanted,
  }
  const [ours, theirs] = socketpair()
  using answers = ours
  {
    using end = theirs
    try {
      send(walker, Buffer.from(JSON.stringify(request)), [end, start.root(), start.base, start.process()], MSG_DONTWAIT)
    } catch (error) {
      throw new WalkerStuck((error as Error).message)
    }
  }
  if (!waitReadable(answers, PATIENCE_MS)) throw new WalkerStuck('no answer')
  return answerOf(answers)
}

function answerOf(socket: Handle): Fd {
  const bytes = new Uint8Array(256)
  const message = receive(socket, bytes)
  if (!message || message.length === 0) throw new WalkerStuck('it ended')
  const { errno } = JSON.parse(Buffer.from(bytes.subarray(0, message.length)).toString()) as Reply
  const [fd] = message.fds
  if (errno !== 0) throw new SyscallError('walk', errno as Errno)
  if (!fd) throw new SyscallError('walk', errnos.EACCES as Errno)
  return fd
}
