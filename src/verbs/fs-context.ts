import type { Verb, Verbs } from '../calls/act.ts'

export const openContext: Verb<Verbs['openContext']> = {
  caps: ['SYS_ADMIN'],
  over: [],
  lane: 'slow',
  safe:
    'A context of fsopen(2) for a file system of the policy: the kernel makes nothing in it for a container, since that takes ' +
    'CAP_SYS_ADMIN of the host, and we never do. A container has a few at a time; older ones are forgotten.',
  run: ({ type, cloexec }, caller) => ({ value: 0n, ...caller.mounts.openContext(type), cloexec }),
}

export const create: Verb<Verbs['create']> = {
  caps: ['SYS_ADMIN'],
  over: ['DAC_OVERRIDE'],
  lane: 'process',
  safe:
    'As `mount`, by the parameters that were noted, in a context that the container never gets: with it, it could mount the ' +
    'file system by itself and open devices there.',
  run({ context, description }, caller) {
    try {
      caller.mounts.create(description, context)
    } catch (error) {
      context.fail()
      throw error
    }
    return { value: 0n }
  },
}

export const mountContext: Verb<Verbs['mountContext']> = {
  caps: ['SYS_ADMIN'],
  over: [],
  lane: 'process',
  safe:
    'A mount of what was made for this container, nodev and locked by the kernel before the container gets it; what it may ' +
    'change of it, and where it may put it, the kernel judges as it does for any mount of the container.',
  run({ context, made, attributes, cloexec, manner }, caller) {
    const given = caller.mounts.finish(made, attributes, manner)
    context.end()
    return { value: 0n, ...given, cloexec }
  },
}

export const renewMount: Verb<Verbs['renewMount']> = {
  caps: ['SYS_ADMIN'],
  over: [],
  lane: 'process',
  safe:
    'What `mountContext` gave to this container is made anew with another policy of access times, which is locked with the rest ' +
    'and so cannot be changed: again nodev and locked before the container gets it, in the place of the first one.',
  run({ mount, attributes, replaces }, caller) {
    const given = caller.mounts.renew(mount, attributes)
    mount.end()
    // As fsmount(2) gives it to all programs that are known; what fcntl(2) made of it since is not.
    return { value: 0n, ...given, cloexec: true, replaces }
  },
}
