import { type Effect, type Verb, type Verbs, WAS_NOT } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import type { StoredFsContext } from '../calls/context.ts'
import type { FdForCaller } from '../calls/mounts.ts'
import { steps } from '../calls/steps.ts'
import type { Handle } from '../kernel/handle.ts'

export const openContext: Verb<Verbs['openContext']> = {
  steps: [steps.askMounter],
  safe:
    'A context of fsopen(2) for a file system of the policy: the kernel makes nothing in it for a container, since that takes ' +
    'CAP_SYS_ADMIN of the host, and we never do. A container has a few at a time; older ones are forgotten.',
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
    'As `mount`, by the parameters that were noted, in a context that the container never gets: with it, it could mount the ' +
    'file system by itself and open devices there.',
  run({ context, description }, caller) {
    caller.note(WAS_NOT)
    try {
      context.keep(caller.mounts.create(description))
    } catch (error) {
      context.fail()
      throw error
    }
    return { value: 0n }
  },
  recover: ({ context }, _caller, { note }) => (note === WAS_NOT && context.made ? { value: 0n } : undefined),
}

export const pickContext: Verb<Verbs['pickContext']> = {
  steps: [steps.askMounter],
  safe:
    'A context of fspick(2) for a tmpfs that was made for this container, in which the kernel changes nothing for a container, since ' +
    'that takes CAP_SYS_ADMIN of the host, and we never do; a second one of ours is what `reconfigure` uses.',
  run({ root, cloexec }, caller) {
    const { fd, sent, note } = caller.mounts.pick(root)
    caller.note(note)
    return { value: 0n, fd, cloexec, sent }
  },
  recover: (_act, _caller, { given }) => (given === undefined ? undefined : { value: BigInt(given) }),
}

export const reconfigure: Verb<Verbs['reconfigure']> = {
  steps: [steps.askMounter],
  safe: 'As `remount`, by the parameters that were noted, in a context that the container never gets.',
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
    'A mount of what was made for this container, nodev and locked by the kernel before the container gets it (but for a tmpfs, see `mount`); what it may ' +
    'change of it, and where it may put it, the kernel judges as it does for any mount of the container.',
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
    'What `mountContext` gave to this container is made anew with another policy of access times, which is locked with the rest ' +
    'and so cannot be changed: again nodev and locked before the container gets it, in the place of the first one.',
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
