import type { Errno } from '../../abi/brand.ts'
import { MSG_DONTWAIT } from '../../abi/socket.ts'
import type { MountCall, MountManner, SuperblockRequest } from '../../calls/mounts.ts'
import { SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { receive, send, socketpair, waitReadable } from '../../kernel/socket.ts'

const REPLY_LIMIT = 256
/** A mount may take as long as its device; after that it counts as hanging. */
const PATIENCE_MS = 20_000
/** It is done then, but for a processor. */
const CLOSING_MS = 1000
/** How often the caller is looked at meanwhile. */
const LOOK_MS = 200

/**
 * What a mounter is asked. The descriptors are: where to answer, and
 * mount: the caller's `/proc/TID`, the container's user namespace, the source if it is a device; answered with a detached mount.
 * create: the caller's `/proc/TID`, the source if it is a device; answered with a context that is ready to be mounted.
 * finish: that context, the container's user namespace; answered with a detached mount, its root directory, and a copy
 *   that is not locked, if the mount is.
 * renew: that copy; answered as finish.
 * attach: a detached mount, its target, the target's mount namespace; `isNew` as mount(2) does it.
 * greet: whatever is to be closed; answered when that is done, and all that was asked before.
 */
export type MounterRequest =
  /** Flags are hexadecimal here, and so are attributes. */
  | ({ readonly do: 'mount'; readonly flags: string } & Omit<MountCall, 'flags'>)
  | ({ readonly do: 'create' } & SuperblockRequest)
  | ({ readonly do: 'finish'; readonly attributes: string } & MountManner)
  | { readonly do: 'renew'; readonly attributes: string }
  | { readonly do: 'attach'; readonly isNew: boolean }
  | { readonly do: 'greet' }

/** `stage`: what failed, where the errno alone would not tell. */
export interface MounterReply {
  readonly errno: number
  readonly stage?: 'groups' | 'shift' | 'source' | 'type'
}

/** The mounter did not answer, or nobody waits for its answer any more: it must not be used again. */
export class MounterLost extends Error {
  override readonly name = 'MounterLost'
  /** It is not there any more, instead of hanging. */
  readonly ended: boolean

  constructor(message: string, ended = false) {
    super(message)
    this.ended = ended
  }
}

/** The device rules of the caller could not be put on the mounter, its source is none, or the file system cannot be shifted. */
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

/** How long an answer is waited for. */
interface Waiting {
  /** Does the caller still wait? */
  readonly waits: () => boolean
  /** In milliseconds. */
  readonly patience?: number
  /** Are the caller's processes stopped? The mounter is where they are, and waits with them. */
  readonly isFrozen?: () => boolean
}

/**
 * Lets a mounter work, and waits for it as long as the caller waits.
 *
 * @param mounter its socket; nobody else asks it meanwhile
 * @returns the descriptors that it made
 * @throws {SyscallError} what the kernel says
 * @throws {MountRefused} for what the kernel was not asked for
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
    if (!waits()) throw new MounterLost('the caller is gone')
    if (waited >= patience && !isFrozen?.()) throw new MounterLost('no answer')
  }
  return answerOf(answers)
}

/** @returns where it answers, and what it closes when it has done that @throws {SyscallError} if it cannot be told */
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
    throw new MounterLost((error as Error).message, true)
  }
}

function answerOf(socket: Handle): readonly Fd[] {
  const bytes = new Uint8Array(REPLY_LIMIT)
  const message = receive(socket, bytes)
  if (!message || message.length === 0) throw new MounterLost('it ended', true)
  const { errno, stage } = JSON.parse(Buffer.from(bytes.subarray(0, message.length)).toString()) as MounterReply
  // It has closed its copies when it closes this: whoever has a mount open keeps the caller from unmounting it.
  waitReadable(socket, CLOSING_MS)
  if (stage) throw new MountRefused(stage, errno as Errno)
  if (errno !== 0) throw new SyscallError('mount', errno as Errno)
  return message.fds
}
