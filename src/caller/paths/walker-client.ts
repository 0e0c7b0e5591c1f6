import type { Errno } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import type { ProcStatus } from '../../kernel/procfs/status.ts'
import { receive, send, socketpair, waitReadable } from '../../kernel/socket.ts'
import { REQUEST_LIMIT } from '../../processes/serve-requests.ts'
import type { LookupKind, LookupRequest, LookupStart } from './lookup-types.ts'

/** How long a walker may take before the call is left to the kernel, which then hangs as it would have without us. */
const PATIENCE_MS = 2000

/** What a failed request tells of the walker: its queue is full, or it has ended. All else tells of us, or of the request. */
const ITS_OWN: ReadonlySet<number> = new Set([errnos.EAGAIN, errnos.EPIPE, errnos.ECONNRESET])

/** The walker hangs in a file system of the container. */
export class WalkerStuck extends Error {
  override readonly name = 'WalkerStuck'
}

/** What a walker is asked; the descriptors are: where to answer, root, base and process of a `Start`. */
export interface WalkRequest {
  readonly uids: ProcStatus['uids']
  readonly gids: ProcStatus['gids']
  readonly groups: readonly number[]
  /** Hexadecimal. */
  readonly effective: string
  /** Bytes as Latin-1, without the NUL. */
  readonly path: string
  readonly wanted: LookupKind
  readonly numbers: LookupStart['numbers']
}

/** The answer: 0 with a descriptor, or an errno. */
export interface WalkReply {
  readonly errno: number
  /** Milliseconds that processors have worked for it. */
  readonly worked: number
}

/** A walker as who asks it sees it. */
export interface Walker {
  /** Many threads use it: each request brings its own one for the answer. */
  readonly socket: Handle
  /** Called with what it says of its work, whatever it finds. */
  readonly onWorked: (ms: number) => void
}

/**
 * Lets a container's walker, a process of its user namespace, look a path up as the caller.
 *
 * @throws {SyscallError} what the kernel says to the caller
 * @throws {ContinueError} if it cannot be asked that, because of a list of groups that is too long, or for want of memory
 * @throws {WalkerStuck} if it does not answer in time, or its queue is full
 */
export function requestWalk(
  { socket, onWorked }: Walker,
  start: LookupStart,
  status: ProcStatus,
  goal: LookupRequest,
): Fd {
  const { uids, gids, groups, effective } = status
  const request: WalkRequest = {
    uids,
    gids,
    groups: [...groups],
    effective: effective.toString(16),
    numbers: start.numbers,
    path: Buffer.from(goal.path.subarray(0, -1)).toString('latin1'),
    wanted: goal.wanted,
  }
  using answers = tell(socket, Buffer.from(JSON.stringify(request)), [start.root(), start.base, start.process()])
  if (!waitReadable(answers, PATIENCE_MS)) throw new WalkerStuck('no answer')
  return answerOf(answers, onWorked)
}

/** @returns where it answers */
function tell(walker: Handle, request: Uint8Array, handles: readonly Handle[]): Fd {
  if (request.length > REQUEST_LIMIT) throw new ContinueError('lookFailed', errnos.EMSGSIZE)
  const [ours, theirs] = socketpair()
  using end = theirs
  try {
    send(walker, request, [end, ...handles], MSG_DONTWAIT)
    return ours
  } catch (error) {
    ours[Symbol.dispose]()
    if (!(error instanceof SyscallError)) throw error
    throw ITS_OWN.has(error.errno) ? new WalkerStuck(error.message) : new ContinueError('lookFailed', error.errno)
  }
}

function answerOf(socket: Handle, onWorked: Walker['onWorked']): Fd {
  const bytes = new Uint8Array(256)
  const message = receive(socket, bytes)
  if (!message || message.length === 0) throw new WalkerStuck('it ended')
  const { errno, worked } = JSON.parse(Buffer.from(bytes.subarray(0, message.length)).toString()) as WalkReply
  onWorked(worked)
  const [fd] = message.fds
  if (errno !== 0) throw new SyscallError('walk', errno as Errno)
  // We had no room for it.
  if (!fd) throw new ContinueError('lookFailed', errnos.EMFILE)
  return fd
}
