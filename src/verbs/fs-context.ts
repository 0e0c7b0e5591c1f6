import { errno } from '../abi/errno.ts'
import { type Effect, type Mark, type Verb, type Verbs, WAS_NOT } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import type { StoredFsContext } from '../calls/context.ts'
import type { FdForCaller, SuperblockRequest } from '../calls/mounts.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError, Refused } from '../calls/verdict.ts'
import { isErrno } from '../kernel/error.ts'
import { dup, type Handle } from '../kernel/fd.ts'

export const openContext: Verb<Verbs['openContext']> = {
  steps: [steps.askMounter],
  safe:
    'The container gets a context of fsopen(2) for a file system of the policy. The kernel makes nothing in it ' +
    'for a container, because that requires CAP_SYS_ADMIN on the host, and Intercede never does.',
  run({ type, cloexec }, caller) {
    const { fd, sent, note } = caller.mounts.openContext(type)
    caller.note(note)
    return { value: 0n, fd, cloexec, sent }
  },
  recover: (_act, _caller, { given }) => (given === undefined ? undefined : { value: BigInt(given) }),
}

const nameOf = ({ context: { name } }: Verbs['create'] | Verbs['createBpffs']): readonly Mark[] => [
  name.index,
  name.serial,
]

export const create: Verb<Verbs['create']> = {
  steps: [steps.askMounter],
  safe:
    'As `mount`, with the recorded parameters, in a context that the container never gets: it could mount that itself, ' +
    'and open devices there.',
  run({ context, description }, caller) {
    if (!description) throw new Refused('contextOver', errno('EBUSY'))
    caller.note(WAS_NOT)
    try {
      context.keep(caller.mounts.create(description))
    } catch (error) {
      // A kernel that cannot refuse what exists says so before it begins (fs/fsopen.c vfs_cmd_create(), Linux 6.6).
      if (!isCancelled(error) && !(description.exclusive && isErrno(error, 'EOPNOTSUPP'))) context.fail()
      throw error
    }
    return { value: 0n }
  },
  recover: ({ context }, _caller, { note }) => (note === WAS_NOT && context.made ? { value: 0n } : undefined),
  /** A context is made once, so its name says all. */
  once: { conflictErrno: undefined, key: nameOf, fingerprint: nameOf },
}

export const delegate: Verb<Verbs['delegate']> = {
  steps: [steps.look, steps.askMounter],
  safe:
    'Only values of the policy are recorded. A mounter copies the descriptor, and the kernel itself names the file ' +
    'system of the context: only a bpffs is kept, and nothing is changed in it yet.',
  run({ context, fd, parameter }, caller) {
    const described = context ?? caller.mounts.adopt(fd)
    if (!described.add(parameter)) throw new Refused('contextFull', errno('E2BIG'))
    return { value: 0n }
  },
}

export const createBpffs: Verb<Verbs['createBpffs']> = {
  steps: [steps.askMounter],
  safe:
    "The container's own context keeps its user namespace, so tokens of the bpffs give capabilities there only. It " +
    'delegates values that the policy lists at this moment, by their numbers. What the kernel puts into a bpffs ' +
    "belongs to the host's root, and no container can read it.",
  run: (act, caller) => madeBpffs(act, caller, caller.mayComeAgain),
  recover(act, caller, { note }) {
    if (note !== WAS_NOT) return undefined
    return act.context.made ? { value: 0n } : madeBpffs(act, caller, true)
  },
  once: { conflictErrno: undefined, key: nameOf, fingerprint: nameOf },
}

/** @param isBegun whether it may be made already, which the kernel then says (EBUSY) before it changes anything */
function madeBpffs({ context, parameters }: Verbs['createBpffs'], caller: Caller, isBegun: boolean): Effect {
  if (!parameters) throw new Refused('contextOver', errno('EBUSY'))
  caller.note(WAS_NOT)
  try {
    caller.mounts.createBpffs(context, parameters)
  } catch (error) {
    if (!isBegun || !isErrno(error, 'EBUSY')) {
      if (!isCancelled(error)) context.fail()
      throw error
    }
  }
  context.keep(dup(context.handle))
  // It only has to be known until the container has mounted it, and makes room for others first.
  context.use()
  return { value: 0n }
}

export const pickContext: Verb<Verbs['pickContext']> = {
  steps: [steps.askMounter],
  safe:
    'The container gets a context of fspick(2) for a tmpfs that was made for it. As in `openContext`, nothing ' +
    'changes in it; `reconfigure` uses a second one of ours.',
  run({ root, cloexec }, caller) {
    const { fd, sent, note } = caller.mounts.pick(root)
    caller.note(note)
    return { value: 0n, fd, cloexec, sent }
  },
  recover: (_act, _caller, { given }) => (given === undefined ? undefined : { value: BigInt(given) }),
}

export const reconfigure: Verb<Verbs['reconfigure']> = {
  steps: [steps.askMounter],
  safe: 'As `remount`, with the recorded parameters, in a context that the container never gets.',
  run({ context, picked }, caller) {
    try {
      caller.mounts.reconfigure(picked, context.parameters)
      context.apply()
    } catch (error) {
      if (!isCancelled(error)) context.fail()
      throw error
    }
    return { value: 0n }
  },
}

export const mountContext: Verb<Verbs['mountContext']> = {
  steps: [steps.askMounter],
  safe:
    'Intercede locks nodev on what `create` made for this container before handing it out (except a tmpfs, see ' +
    '`mount`). The kernel judges how the container may change it and where it may place it.',
  run(act, caller) {
    caller.note(WAS_NOT)
    return act.context.isUsed && act.anew ? mountedAnew(act, act.anew, caller) : mounted(act, act.made, caller)
  },
  recover(act, caller, { note, given }) {
    if (given !== undefined) {
      act.context.use()
      return { value: BigInt(given), sent: thenDrop(act.context, () => {}) }
    }
    return note === 0n || !act.anew ? undefined : mountedAnew(act, act.anew, caller)
  },
}

/** Tells whether the caller is gone, perhaps by a signal after which the call comes again. */
const isCancelled = (error: unknown): boolean => error instanceof ContinueError

function mountedAnew(act: Verbs['mountContext'], anew: SuperblockRequest, caller: Caller): Effect {
  using made = caller.mounts.create(anew)
  return mounted(act, made, caller)
}

/** The context is kept until the caller has the mount, since another engine may have to continue the call. */
function mounted(
  { context, attributes, cloexec, manner }: Verbs['mountContext'],
  made: Handle,
  caller: Caller,
): Effect {
  // From here on the mounter may mount it, also for a call that is gone.
  let given: FdForCaller
  try {
    given = caller.mounts.finish(made, attributes, manner, context)
  } catch (error) {
    if (isCancelled(error)) context.use()
    throw error
  }
  const { fd, sent, note } = given
  caller.note(note)
  context.use()
  return { value: 0n, fd, cloexec, sent: thenDrop(context, sent) }
}

const thenDrop =
  (kept: StoredFsContext, sent: FdForCaller['sent']): FdForCaller['sent'] =>
  (number) => {
    sent(number)
    if (number !== undefined) kept.endOnceUnlocked()
  }

export const renewMount: Verb<Verbs['renewMount']> = {
  steps: [steps.askMounter],
  safe:
    'A mount of `mountContext` is made again with another access time policy, which is locked with the rest and ' +
    'so cannot be changed. It is again nodev and locked before the container gets it, and replaces the first one.',
  run(act, caller) {
    caller.note(WAS_NOT)
    return renewed(act, caller.mounts.renew(act.mount, act.attributes))
  },
  recover(act, caller, { note }) {
    const { mount, anew, attributes, manner } = act
    if (note !== WAS_NOT || !anew) return undefined
    if (caller.mounts.attributes(mount) === attributes) return { value: 0n }
    using made = caller.mounts.create(anew)
    return renewed(act, caller.mounts.finish(made, attributes, manner, mount))
  },
}

/**
 * The descriptor is close-on-exec, as all known programs ask fsmount(2) for; a later change by fcntl(2) is not known.
 */
const renewed = ({ mount, replaces }: Verbs['renewMount'], { fd, sent }: FdForCaller): Effect => ({
  value: 0n,
  ...{ fd, cloexec: true, replaces, sent: thenDrop(mount, sent) },
})
