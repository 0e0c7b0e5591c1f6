import type { Dev, Mode } from '../abi/brand.ts'
import { fileType, major, minor, S_IFMT, S_IFREG } from '../abi/stat.ts'
import type { Effect, Verb, Verbs } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { why } from '../calls/reasons.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError, Refused } from '../calls/verdict.ts'
import { isMountRoot, mknodat, statx, unlinkat } from '../kernel/files.ts'
import { createIn, isMadeSince, isNode, noteAbsence, ONCE_NAMED, standing, wasAbsent } from './create.ts'

/** Makes the node as the caller. */
function makeNode(node: Verbs['mknod'], caller: Caller): void {
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
    'Only character devices of the policy are made, and never the console 5:1: see `placeNode`; with `granted`, also ' +
    "devices that the device rules of the caller's control groups name, since the kernel asks these at each open. " +
    "Intercede opens the directory and makes the node as the caller, so the kernel checks the caller's own permissions.",
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

type PlaceNode = Verbs['placeNode']

const NO_DEVICE = 0 as Dev

/**
 * Returns what is made in the file system of the directory. A node that would open a device of the host must not be in
 * any file system: who reaches that by another mount would open it, whatever covers it here.
 */
const below = (act: PlaceNode): PlaceNode =>
  act.why === 'opensHost' ? { ...act, mode: ((act.mode & ~S_IFMT) | S_IFREG) as Mode, dev: NO_DEVICE } : act

export const placeNode: Verb<PlaceNode> = {
  steps: [steps.makeNode, steps.inDirectory, steps.look, steps.makeMount, steps.makeOwnNode, steps.askMounter],
  safe:
    'Intercede makes the node as `mknod` does, where nobody can open it. On it, only in the ' +
    "caller's mount namespace, it mounts a node with the same device, owner, group and mode from a file system of " +
    'ours. For the console 5:1 it makes an empty file, and the kernel locks nodev on the mount: nobody ever opens ' +
    'that node, by any path, descriptor or copy of the mount.',
  run(act, caller) {
    makeNode(below(act), caller)
    return complete(act, caller)
  },
  recover(act, caller, trace) {
    if (!wasAbsent(trace)) return undefined
    using made = standing(caller, act.dir, act.name)
    if (!made || !isMadeSince(made, trace)) return undefined
    if (isMountRoot(made) && isNode(made, act.mode, act.dev)) return { value: 0n }
    // The engine that made the file below may have ended before the mount.
    const { mode, dev } = below(act)
    return isNode(made, mode, dev) ? complete(act, caller) : undefined
  },
  once: ONCE_NAMED,
}

/**
 * Covers what was made. Where that cannot be done a node stays, if the host's root would get no better one; otherwise
 * what was made is removed, so the kernel can judge the call and give the answer that it would have given without us.
 */
function complete(act: PlaceNode, caller: Caller): Effect {
  try {
    cover(act, caller)
    return { value: 0n }
  } catch (error) {
    const isGone = error instanceof ContinueError && error.why.code === 'gone'
    if (act.why === 'nodevMount' && !isGone) return { value: 0n, why: why('doneOnNodev') }
    remove(caller, act)
    throw error instanceof ContinueError || error instanceof Refused ? error : notCovered(act)
  }
}

const notCovered = ({ why: code, dev }: PlaceNode): ContinueError =>
  code === 'opensHost' ? new ContinueError(code, major(dev), minor(dev)) : new ContinueError('containerSuperblock')

/** Mounts a node of ours on what was made, unless another thread of the container has moved that away meanwhile. */
function cover(act: PlaceNode, caller: Caller): void {
  const { dir, name, mode: asked, dev } = below(act)
  using file = standing(caller, dir, name)
  if (!file || !isNode(file, asked, dev)) return
  const { mode, gid } = statx(file.raw)
  caller.mountNode(
    { mode: ((mode & ~S_IFMT) | fileType(act.mode)) as Mode, dev: act.dev, gid, opens: act.why !== 'opensHost' },
    file,
  )
}

/** Removes what was made, with the rights with which it was made. */
function remove(caller: Caller, { dir, name, mode }: PlaceNode): void {
  createIn(caller, dir, mode, steps.inDirectory, () => unlinkat(dir, name), 'look')
}
