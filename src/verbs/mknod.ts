import type { Verb, Verbs } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { steps } from '../calls/steps.ts'
import { mknodat } from '../kernel/files.ts'
import { createIn } from './create.ts'
import { isMadeSince, isNode, noteAbsence, ONCE_NAMED, standing, wasAbsent } from './traces.ts'

/** Makes the node as the caller. */
export function makeNode(node: Verbs['mknod'], caller: Caller): void {
  const { dir, name, mode, dev } = node
  const isCharged = caller.mustBeCharged(dir)
  createIn(caller, dir, mode, steps.makeNode, (own) => {
    noteAbsence(caller, dir, name)
    if (isCharged) caller.mounts.makeNode(node, own)
    else mknodat(dir, name, mode, dev)
  })
}

export const mknod: Verb<Verbs['mknod']> = {
  steps: [steps.makeNode, steps.inDirectory, steps.askMounter],
  safe:
    'Only character devices of the policy are made, and never the console 5:1, which would open one of the host: ' +
    'see `placeNode`. Intercede opens the directory and makes the node as the caller, with its ids, groups and ' +
    "umask, so the kernel checks the caller's own permissions. Its capabilities over files count only for this " +
    'directory, if its owner and group are mapped in the container.',
  run(act, caller) {
    makeNode(act, caller)
    return { value: 0n }
  },
  recover({ dir, name, mode, dev }, caller, trace) {
    if (!wasAbsent(trace)) return undefined
    using node = standing(caller, dir, name)
    return node && isMadeSince(node, trace) && isNode(node, mode, dev) ? { value: 0n } : undefined
  },
  once: ONCE_NAMED,
}
