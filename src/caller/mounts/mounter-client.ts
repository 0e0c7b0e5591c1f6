import type { Dev, Errno, HostId, Mode } from '../../abi/brand.ts'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import type { MountManner, Parameter } from '../../calls/context.ts'
import type { MountCall, SuperblockRequest } from '../../calls/mounts.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd, Handle } from '../../kernel/fd.ts'
import { receive, send, socketpair, waitReadable } from '../../kernel/socket.ts'

const REPLY_LIMIT = 256
/**
 * How long a mount may take, in milliseconds; it may be as slow as its device. After this time the mounter counts as
 * hanging.
 */
const PATIENCE_MS = 20_000
/** Milliseconds between two checks whether the caller still waits. */
const LOOK_MS = 200

/**
 * A request to a mounter. Its first descriptor is the socket for the answer; the other descriptors and the answer's
 * are:
 *
 *   mount   the caller's `/proc/TID`, the container's user namespace, the source if it is a device;
 *           answered with a detached mount
 *   create  the caller's `/proc/TID`, the source if it is a device; answered with a context, ready for fsmount(2)
 *   finish  this context, the container's user namespace, the caller's `/proc/TID`; answered with a detached mount,
 *           its root directory and, if the mount is locked, a copy that is not locked
 *   renew   the copy that is not locked, the caller's `/proc/TID`; answered as finish
 *   lock    a detached mount, which is used up; answered with a copy whose attributes are locked
 *   attach  a detached mount, its target, the target's mount namespace, the caller's `/proc/TID`; `isNew`: with the
 *           checks of mount(2). The kernel copies the mount to every place that shares mounts with the target
 *   remount the root of a mount, its mount namespace
 *   reconfigure  a context of fspick(2)
 *   node    the caller's `/proc/TID`, the directory in which a device node is made as the caller
 *   attribute  the caller's `/proc/TID`, the inode of which an attribute is set or, without a value, removed
 *   open    the caller's `/proc/TID`; answered with what fsopen(2) gives
 *   pick    the caller's `/proc/TID`, the root of a mount; answered with two that fspick(2) gives
 *   adopt   a pidfd of the caller; answered with its descriptor `fd`, if that is the context of a bpffs
 *   createBpffs  the caller's `/proc/TID`, this context
 *   greet   descriptors to close; answered when they are closed and all earlier requests are done
 */
export type MounterRequest =
  /** Flags and attributes are hexadecimal strings. */
  | ({ readonly do: 'mount'; readonly flags: string } & Omit<MountCall, 'flags'>)
  | ({ readonly do: 'create' } & SuperblockRequest)
  | ({ readonly do: 'finish'; readonly attributes: string } & MountManner)
  | { readonly do: 'renew'; readonly attributes: string }
  | { readonly do: 'lock' }
  | { readonly do: 'attach'; readonly isNew: boolean }
  | { readonly do: 'remount'; readonly flags: string; readonly data?: string }
  | {
      readonly do: 'node'
      readonly name: string
      readonly mode: Mode
      readonly dev: Dev
      readonly as: Ids
      readonly own: number
    }
  /** The value in base64. */
  | { readonly do: 'attribute'; readonly name: string; readonly value?: string; readonly flags?: number }
  | { readonly do: 'open'; readonly type: string }
  | { readonly do: 'pick' }
  | { readonly do: 'reconfigure'; readonly parameters: readonly Parameter[] }
  | { readonly do: 'adopt'; readonly fd: number; readonly gid: HostId }
  | { readonly do: 'createBpffs'; readonly parameters: readonly Parameter[] }
  | { readonly do: 'greet' }

/** Whom a mounter becomes to make a file: the ids that count for file systems, and what is taken off its mode. */
export interface Ids {
  readonly uid: HostId
  readonly gid: HostId
  readonly groups: readonly number[]
  readonly umask: Mode
}

/** A mounter's answer. `stage` says which step failed, where the errno alone would not tell. */
export interface MounterReply {
  readonly errno: number
  readonly stage?: 'groups' | 'shift' | 'source' | 'type'
}

/**
 * How a thread leaves a mounter.
 *
 *   done     all requests are answered
 *   working  the caller is gone, and the request changes nothing but by its answer, for which nobody waits: the mounter
 *            may be used again once it is done
 *   lost     it has ended or does not answer, or may still attach or change a mount for a call that is gone: it must
 *            not go on, since that call may come again, and would find no mount yet
 */
export type MounterState = 'done' | 'working' | 'lost'

/** Thrown when the mounter did not answer or the caller is gone: this call must not use the mounter again. */
export class MounterLost extends Error {
  override readonly name = 'MounterLost'
  readonly state: Exclude<MounterState, 'done'>
  /** Has the mounter ended? */
  readonly ended: boolean

  constructor(message: string, { ended = false, state = 'lost' as MounterLost['state'] } = {}) {
    super(message)
    this.ended = ended
    this.state = state
  }
}

/**
 * Thrown when the mounter refused a request before it asked the kernel: it could not join the caller's cgroups, the
 * caller cannot use the source, the file system type may show the host, or the file system cannot be idmapped.
 */
export class MountRefused extends Error {
  override readonly name = 'MountRefused'
  readonly stage: NonNullable<MounterReply['stage']>
  readonly errno: Errno

  constructor(stage: NonNullable<MounterReply['stage']>, errno: Errno) {
    super(stage)
    this.stage = stage
    this.errno = errno
  }
}

/** When to give up waiting for an answer. */
interface Waiting {
  /** Tells whether the caller still waits. */
  readonly waits: () => boolean
  /** How long to wait, in milliseconds. */
  readonly patience?: number
  /** Tells whether the container's cgroup is frozen. The mounter has joined it, so it is stopped too. */
  readonly isFrozen?: () => boolean
}

/**
 * Sends a request to a mounter, and waits for the answer as long as the caller waits.
 *
 * @param mounter the mounter's socket, which no other thread may use meanwhile
 * @returns the descriptors that the mounter made
 * @throws {SyscallError} what the kernel says
 * @throws {MountRefused} if the mounter refused before it asked the kernel
 * @throws {MounterLost}
 */
export function requestMount(
  mounter: Handle,
  request: MounterRequest,
  handles: readonly Handle[],
  { waits, patience = PATIENCE_MS, isFrozen }: Waiting,
): readonly Fd[] {
  using answers = orLost(() => sendToMounter(mounter, request, handles))
  for (let waited = 0; !waitReadable(answers, LOOK_MS); waited += LOOK_MS) {
    if (!waits()) throw new MounterLost('the caller is gone', { state: afterCaller(request) })
    if (waited >= patience && !isFrozen?.()) throw new MounterLost('no answer')
  }
  const message = messageOf(answers)
  // The mounter closes this socket after its copies of a mount, each of which would keep the caller from unmounting
  // it. It only needs a processor for that.
  for (let waited = 0; waited < patience && !waitReadable(answers, LOOK_MS) && waits(); ) waited += LOOK_MS
  return answerOf(message)
}

/** Requests that change what the container has, not only by their answers. */
const CHANGING: ReadonlySet<MounterRequest['do']> = new Set([
  ...(['attach', 'remount', 'reconfigure', 'node', 'attribute', 'createBpffs'] as const),
])

const afterCaller = ({ do: what }: MounterRequest): MounterLost['state'] => (CHANGING.has(what) ? 'lost' : 'working')

/**
 * Sends a request to a mounter.
 *
 * @returns the socket on which it answers, and whose end it closes when it has closed its other descriptors
 * @throws {SyscallError} if the request cannot be sent
 */
export function sendToMounter(mounter: Handle, request: MounterRequest, handles: readonly Handle[]): Fd {
  const [ours, theirs] = socketpair()
  using end = theirs
  try {
    send(mounter, Buffer.from(JSON.stringify(request)), [end, ...handles], MSG_DONTWAIT)
    return ours
  } catch (error) {
    ours[Symbol.dispose]()
    throw error
  }
}

function orLost<T>(action: () => T): T {
  try {
    return action()
  } catch (error) {
    throw new MounterLost((error as Error).message, { ended: true })
  }
}

function messageOf(socket: Handle): { readonly reply: MounterReply; readonly fds: readonly Fd[] } {
  const bytes = new Uint8Array(REPLY_LIMIT)
  const message = receive(socket, bytes)
  if (!message || message.length === 0) throw new MounterLost('it ended', { ended: true })
  const reply = JSON.parse(Buffer.from(bytes.subarray(0, message.length)).toString()) as MounterReply
  return { reply, fds: message.fds }
}

function answerOf({ reply: { errno, stage }, fds }: ReturnType<typeof messageOf>): readonly Fd[] {
  if (stage) throw new MountRefused(stage, errno as Errno)
  if (errno !== 0) throw new SyscallError('mount', errno as Errno)
  return fds
}
