import type { Dev, Mode } from '../abi/brand.ts'
import { O_NOFOLLOW, O_PATH } from '../abi/fcntl.ts'
import { fileType, S_IFREG } from '../abi/stat.ts'
import type { Effect, Verb, Verbs } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { mknodat, openat, statx, unlinkat } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { createIn } from './create.ts'
import { isMadeSince, isNode, noteAbsence, ONCE_NAMED, standing, wasAbsent } from './traces.ts'

type PlaceNode = Verbs['placeNode']
const NO_DEVICE = 0 as Dev

export const placeNode: Verb<PlaceNode> = {
  steps: [steps.inDirectory, steps.look, steps.makeMount, steps.makeOwnNode, steps.attachMount],
  safe:
    'Only the devices that mknod makes, under the same conditions. An empty file is made as the caller, with no capability but its own, and fails where the caller may not make one; onto ' +
    "that file, by its handle, a device node of the policy is mounted that lies on a file system of ours and has the file's " +
    'owner, group and mode. The mount is in the mount namespace of the caller only, whose owner may remove it.',
  run(act, caller) {
    createIn(caller, act.dir, act.mode, steps.inDirectory, () => {
      noteAbsence(caller, act.dir, act.name)
      mknodat(act.dir, act.name, asFile(act.mode), NO_DEVICE)
    })
    return complete(act, caller)
  },
  recover(act, caller, trace) {
    if (!wasAbsent(trace)) return undefined
    using made = standing(caller, act.dir, act.name)
    if (!made || !isMadeSince(made, trace)) return undefined
    if (isNode(made, act.mode, act.dev)) return { value: 0n }
    // Only the file exists: the engine that made it ended before the mount.
    return isEmptyFile(made, act.mode) ? complete(act, caller) : undefined
  },
  once: ONCE_NAMED,
}

function complete(act: PlaceNode, caller: Caller): Effect {
  try {
    mountOver(act, caller)
  } catch (error) {
    // The file is removed, so the kernel can judge the call and give the answer that it would have given without us.
    remove(caller, act)
    throw error instanceof ContinueError ? error : new ContinueError('containerSuperblock')
  }
  return { value: 0n }
}

function isEmptyFile(file: Handle, asked: Mode): boolean {
  const { mode, size } = statx(file.raw)
  return fileType(mode) === S_IFREG && size === 0n && (mode & ~asked & 0o777) === 0
}

const asFile = (mode: Mode): Mode => ((mode & 0o7777) | S_IFREG) as Mode

function mountOver({ dir, name, dev }: PlaceNode, caller: Caller): void {
  using file = openat(dir.raw, name, O_PATH | O_NOFOLLOW)
  const { mode, gid } = statx(file.raw)
  // Another thread of the container may have put another file there, which must not be covered.
  if (fileType(mode) !== S_IFREG) throw new ContinueError('gone')
  caller.mountNode({ mode, dev, gid }, file)
}

/** Removes the file with the rights with which it was made. */
function remove(caller: Caller, { dir, name, mode }: PlaceNode): void {
  createIn(caller, dir, mode, steps.inDirectory, () => unlinkat(dir, name))
}
