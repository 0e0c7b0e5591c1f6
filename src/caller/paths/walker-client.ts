import type { Errno } from '../../abi/brand.ts'
import { errnos } from '../../abi/errno.ts'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import { ContinueError } from '../../calls/verdict.ts'
import { now } from '../../kernel/clock.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import type { SleepTime } from '../../kernel/process.ts'
import type { ProcStatus } from '../../kernel/procfs/status.ts'
import { receive, send, socketpair, waitReadable } from '../../kernel/socket.ts'
import { REQUEST_LIMIT } from '../../processes/helper.ts'
import type { LookupKind, LookupRequest, LookupStart } from './lookup-types.ts'

/**
 * How long a walker may sleep, in milliseconds, before the call is left to the kernel, which then hangs as it would
 * have without us. What it works, or waits for a processor, does not count.
 */
const PATIENCE_MS = 2000
/** How long it may take in all, however slow the machine is. */
const LONGEST_MS = 60_000
/** Milliseconds between two looks at what a walker does. */
const LOOK_MS = 200

/** Errors of a walker that has ended. EAGAIN means that its queue is full; all others concern us or the request. */
const ENDED: ReadonlySet<number> = new Set([errnos.EPIPE, errnos.ECONNRESET])

/** Thrown when the walker does not answer: it hangs in a file system of the container, or has ended. */
export class WalkerStuck extends Error {
  override readonly name = 'WalkerStuck'
  readonly hasEnded: boolean

  constructor(hasEnded: boolean) {
    super(hasEnded ? 'it ended' : 'no answer')
    this.hasEnded = hasEnded
  }
}

/**
 * A request to a walker. Its descriptors are: the socket for the answer, then the root, base and process of a
 * `LookupStart`.
 */
export interface WalkRequest {
  readonly uids: ProcStatus['uids']
  readonly gids: ProcStatus['gids']
  readonly groups: readonly number[]
  /** The caller's effective capabilities, in hexadecimal. */
  readonly effective: string
  /** The bytes of the path as Latin-1, without the NUL. */
  readonly path: string
  readonly wanted: LookupKind
  readonly numbers: LookupStart['numbers']
}

/** A walker's answer: 0 with a descriptor, or an errno. */
export interface WalkReply {
  readonly errno: number
  /** Processor time that the walker has used since its previous answer, in milliseconds. */
  readonly worked: number
}

/** A walker, as the threads that send it requests see it. */
export interface Walker {
  /** The socket for requests. Threads share it, so each request carries a socket of its own for the answer. */
  readonly socket: Handle
  /** Begins to measure how long the walker sleeps. */
  readonly sleepTime: () => SleepTime
  /** Called with the processor time of each answer, in milliseconds, whatever the result. */
  readonly onWorked: (ms: number) => void
}

/**
 * Lets a container's walker, a process in its user namespace, look a path up as the caller.
 *
 * @throws {SyscallError} what the kernel says to the caller
 * @throws {ContinueError} if the request cannot be sent: the list of groups is too long, or memory is short
 * @throws {WalkerStuck} if the walker does not answer in time, or its queue is full
 */
export function requestWalk(
  { socket, sleepTime, onWorked }: Walker,
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
  using answers = sendRequest(socket, Buffer.from(JSON.stringify(request)), [start.root(), start.base, start.process()])
  awaitAnswer(answers, sleepTime)
  return answerOf(answers, onWorked)
}

/** @throws {WalkerStuck} if the walker hangs */
function awaitAnswer(answers: Handle, sleepTime: Walker['sleepTime']): void {
  if (waitReadable(answers, LOOK_MS)) return
  const sleep = sleepTime()
  for (const end = now() + LONGEST_MS; !waitReadable(answers, LOOK_MS); )
    if (sleep.look() >= PATIENCE_MS || now() >= end) throw new WalkerStuck(false)
}

/** Sends a request to a walker. @returns the socket on which it answers */
function sendRequest(walker: Handle, request: Uint8Array, handles: readonly Handle[]): Fd {
  if (request.length > REQUEST_LIMIT) throw new ContinueError('lookFailed', errnos.EMSGSIZE)
  const [ours, theirs] = socketpair()
  using end = theirs
  try {
    send(walker, request, [end, ...handles], MSG_DONTWAIT)
    return ours
  } catch (error) {
    ours[Symbol.dispose]()
    if (!(error instanceof SyscallError)) throw error
    const hasEnded = ENDED.has(error.errno)
    if (hasEnded || error.errno === errnos.EAGAIN) throw new WalkerStuck(hasEnded)
    throw new ContinueError('lookFailed', error.errno)
  }
}

function answerOf(socket: Handle, onWorked: Walker['onWorked']): Fd {
  const bytes = new Uint8Array(256)
  const message = receive(socket, bytes)
  if (!message || message.length === 0) throw new WalkerStuck(true)
  const { errno, worked } = JSON.parse(Buffer.from(bytes.subarray(0, message.length)).toString()) as WalkReply
  onWorked(worked)
  const [fd] = message.fds
  if (errno !== 0) throw new SyscallError('walk', errno as Errno)
  // The engine's descriptor table is full.
  if (!fd) throw new ContinueError('lookFailed', errnos.EMFILE)
  return fd
}
