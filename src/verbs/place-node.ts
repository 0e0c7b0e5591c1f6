import type { Effect, Verb, Verbs } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { why } from '../calls/reason.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { isMountRoot, statx, unlinkat } from '../kernel/files.ts'
import { createIn } from './create.ts'
import { makeNode } from './mknod.ts'
import { isMadeSince, isNode, ONCE_NAMED, standing, wasAbsent } from './traces.ts'

type PlaceNode = Verbs['placeNode']

export const placeNode: Verb<PlaceNode> = {
  steps: [steps.makeNode, steps.inDirectory, steps.look, steps.makeMount, steps.makeOwnNode, steps.attachMount],
  safe:
    'The node is made as `mknod` makes it, where the kernel lets nobody open it. Onto that node, by its handle, one of the same device ' +
    'is mounted that lies on a file system of ours and has its owner, group and mode. The mount is in the mount namespace of ' +
    'the caller only, whose owner may remove it.',
  run(act, caller) {
    makeNode(act, caller)
    return complete(act, caller)
  },
  recover(act, caller, trace) {
    if (!wasAbsent(trace)) return undefined
    using made = standing(caller, act.dir, act.name)
    if (!made || !isMadeSince(made, trace) || !isNode(made, act.mode, act.dev)) return undefined
    // The engine that made the node may have ended before the mount.
    return isMountRoot(made) ? { value: 0n } : complete(act, caller)
  },
  once: ONCE_NAMED,
}

/**
 * Covers the node. Where that cannot be done the node stays, if the host's root would get no better one; else it is
 * removed, so the kernel can judge the call and give the answer that it would have given without us.
 */
function complete(act: PlaceNode, caller: Caller): Effect {
  try {
    cover(act, caller)
    return { value: 0n }
  } catch (error) {
    const isGone = error instanceof ContinueError && error.why.code === 'gone'
    if (act.why === 'nodevMount' && !isGone) return { value: 0n, why: why('doneOnNodev') }
    remove(caller, act)
    throw error instanceof ContinueError ? error : new ContinueError('containerSuperblock')
  }
}

/** Mounts a node of ours on the node, unless another thread of the container has moved the node away meanwhile. */
function cover({ dir, name, mode: asked, dev }: PlaceNode, caller: Caller): void {
  using node = standing(caller, dir, name)
  if (!node || !isNode(node, asked, dev)) return
  const { mode, gid } = statx(node.raw)
  caller.mountNode({ mode, dev, gid }, node)
}

/** Removes the node with the rights with which it was made. */
function remove(caller: Caller, { dir, name, mode }: PlaceNode): void {
  createIn(caller, dir, mode, steps.inDirectory, () => unlinkat(dir, name))
}
