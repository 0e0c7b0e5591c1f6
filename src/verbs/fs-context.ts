import { type Effect, type Verb, type Verbs, WAS_NOT } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import type { StoredFsContext } from '../calls/context.ts'
import type { FdForCaller } from '../calls/mounts.ts'
import { steps } from '../calls/steps.ts'
import { isErrno } from '../kernel/error.ts'
import type { Handle } from '../kernel/fd.ts'

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

export const create: Verb<Verbs['create']> = {
  steps: [steps.askMounter],
  safe:
    'As `mount`, with the recorded parameters, in a context that the container never gets: it could mount that itself, ' +
    'and open devices there.',
  run({ context, description }, caller) {
    caller.note(WAS_NOT)
    try {
      context.keep(caller.mounts.create(description))
    } catch (error) {
      // A kernel that cannot refuse what exists says so before it begins (fs/fsopen.c vfs_cmd_create(), Linux 6.6).
      if (!description.exclusive || !isErrno(error, 'EOPNOTSUPP')) context.fail()
      throw error
    }
    return { value: 0n }
  },
  recover: ({ context }, _caller, { note }) => (note === WAS_NOT && context.made ? { value: 0n } : undefined),
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
      context.fail()
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
    return mounted(act, act.made, caller)
  },
  recover(act, caller, { note, given }) {
    if (given !== undefined) {
      act.context.use()
      return { value: BigInt(given), sent: thenDrop(act.context, () => {}) }
    }
    if (note === 0n || !act.anew) return undefined
    using made = caller.mounts.create(act.anew)
    return mounted(act, made, caller)
  },
}

/** The context is kept until the caller has the mount, since another engine may have to continue the call. */
function mounted(
  { context, attributes, cloexec, manner }: Verbs['mountContext'],
  made: Handle,
  caller: Caller,
): Effect {
  const { fd, sent, note } = caller.mounts.finish(made, attributes, manner, context)
  caller.note(note)
  context.use()
  return { value: 0n, fd, cloexec, sent: thenDrop(context, sent) }
}

const thenDrop =
  (kept: StoredFsContext, sent: FdForCaller['sent']): FdForCaller['sent'] =>
  (number) => {
    sent(number)
    kept.endOnceUnlocked()
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
