import type { Verb, Verbs } from '../calls/act.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { mountId } from '../kernel/files.ts'

export const mount: Verb<Verbs['mount']> = {
  steps: [steps.askMounter],
  safe:
    'Only a file system that the administrator names is mounted, for root of the container, in a mount namespace of ' +
    "the container. The source's node must open for the caller, and in the caller's control groups, so under their " +
    'device rules. From then on only its device number counts, in the same groups, in a root directory that holds ' +
    'nothing else. The kernel locks nodev on the mount, which goes on the handle of the target that the caller ' +
    'found. A tmpfs needs no lock: it is empty, has options that the kernel accepts in any user namespace, and only ' +
    'Intercede makes device nodes there.',
  run({ call, target, namespace }, caller) {
    using tree = caller.mounts.mount(call)
    const id = mountId(tree)
    caller.note(id)
    caller.mounts.attach(tree, { target, namespace }, true)
    return { value: 0n, made: [id] }
  },
  /** The target is resolved again, which now leads into what was mounted on it. */
  recover({ target }, _caller, { note }) {
    return note !== 0n && mountId(target) === note ? { value: 0n } : undefined
  },
  /**
   * A repeated mount would be stacked on the first. The key leaves the target out, since it is another directory
   * then.
   */
  once: {
    conflictErrno: undefined,
    key: ({ call: { type, source, flags, data = '' } }) => [type, JSON.stringify(source), flags, data],
    fingerprint: ({ target }) => [mountId(target)],
  },
}

export const remount: Verb<Verbs['remount']> = {
  steps: [steps.askMounter],
  safe:
    'Only a tmpfs that `mount` or `create` made for this container changes: its limits, and whether it is writable. ' +
    'Intercede recognises it by 64 random bits of the kernel.',
  run(call, caller) {
    caller.mounts.remount(call)
    return { value: 0n }
  },
}

export const placeMount: Verb<Verbs['placeMount']> = {
  steps: [steps.askMounter],
  safe:
    'A mount that `mountContext` gave to this container is placed on a handle of the target that the caller found, in ' +
    "the caller's mount namespace.",
  run({ handle, mount: unplaced, target, namespace }, caller) {
    if (!unplaced) throw new ContinueError('foreignMount')
    const id = mountId(handle)
    caller.note(id)
    try {
      caller.mounts.attach(unplaced.handle, { target, namespace }, false)
    } catch (error) {
      // The mount may be attached all the same, and as long as we hold it nobody could unmount it.
      if (error instanceof ContinueError) unplaced.endAfterCall()
      throw error
    }
    unplaced.endAfterCall()
    return { value: 0n, made: [id] }
  },
  /** The target is resolved again, as for `mount`. */
  recover({ mount: unplaced, target }, _caller, { note }) {
    if (note === 0n || mountId(target) !== note) return undefined
    unplaced?.endAfterCall()
    return { value: 0n }
  },
  once: {
    conflictErrno: undefined,
    key: ({ handle }) => [mountId(handle)],
    fingerprint: ({ target }) => [mountId(target)],
  },
}

export const fuse: Verb<Verbs['fuse']> = {
  steps: [steps.look, steps.lookClosely, steps.stand, steps.askRuntime, steps.attachMount],
  safe:
    "The program is from the container's own image, and the container's own runtime starts it, like `exec`: with the " +
    "container's namespaces, cgroup, filter, label and device rules, and the caller's ids, groups, capabilities, " +
    'no_new_privs and limits. It opens the source and mounts by itself, so the kernel judges everything that it does. ' +
    'Intercede only restricts that mount by the flags of the call.',
  run(mount, caller) {
    caller.fuse.mount(mount)
    return { value: 0n }
  },
  /** The program goes on when the engine ends, so it gets some time to mount. */
  recover(mount, caller, { note }) {
    return note !== 0n && caller.fuse.mounted(mount, note) ? { value: 0n } : undefined
  },
}
