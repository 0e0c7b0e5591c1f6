import type { Verb, Verbs } from '../calls/act.ts'
import { steps } from '../calls/steps.ts'

export const fuse: Verb<Verbs['fuse']> = {
  steps: [steps.look, steps.lookClosely, steps.stand, steps.askRuntime, steps.attachMount],
  safe:
    "The program is from the container's own image. The container's own runtime starts it, like `exec`: in all " +
    "its namespaces and its cgroup, under its seccomp filter, label and device rules, with the caller's ids, " +
    'groups, capabilities, no_new_privs and limits. It opens /dev/fuse and the source and mounts by itself, so ' +
    'the kernel judges everything that it does. If the runtime could not start a program like the caller, the ' +
    'kernel judges the call. Intercede only checks that something is mounted in the end, and restricts that mount ' +
    'by the flags of the call.',
  run(mount, caller) {
    caller.fuse.mount(mount)
    return { value: 0n }
  },
  /** The program goes on when the engine ends, so it gets some time to mount. */
  recover(mount, caller, { note }) {
    return note !== 0n && caller.fuse.mounted(mount, note) ? { value: 0n } : undefined
  },
}
