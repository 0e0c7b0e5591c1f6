import type { Verb, Verbs } from '../calls/act.ts'
import { steps } from '../calls/steps.ts'

export const fuse: Verb<Verbs['fuse']> = {
  steps: [steps.look, steps.lookClosely, steps.stand, steps.askRuntime, steps.attachMount],
  safe:
    "The program is one of the container's own image and is started by the container's own runtime, as `exec` starts one: in all " +
    'of its namespaces and its cgroup, under its seccomp filter, its label and its device rules, with the ids, groups, ' +
    'capabilities, no_new_privs and limits of the caller. It opens /dev/fuse and the source and mounts by itself, so the kernel ' +
    'judges all that it does; a caller whose like the runtime could not start is left to the kernel. Intercede only looks ' +
    'whether something is mounted at last, and restricts that mount by the flags of the call.',
  run(mount, caller) {
    caller.fuse.mount(mount)
    return { value: 0n }
  },
  /** The program goes on when the engine ends, so it gets some time to mount. */
  recover(mount, caller, { note }) {
    return note !== 0n && caller.fuse.mounted(mount, note) ? { value: 0n } : undefined
  },
}
