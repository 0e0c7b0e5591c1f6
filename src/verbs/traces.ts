import type { Dev, Mode, PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { O_NOFOLLOW, O_PATH } from '../abi/fcntl.ts'
import { fileType } from '../abi/stat.ts'
import { type Mark, type RecoveryTrace, type Replayable, WAS_NOT } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { steps } from '../calls/steps.ts'
import { isAbsent } from '../kernel/access.ts'
import { orUndefined } from '../kernel/error.ts'
import type { Fd } from '../kernel/fd.ts'
import { deviceOf, marksOf, openat, statx, timesOf } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'
import { createIn } from './create.ts'

/** How far the timestamps of a file system may lag, in milliseconds: a tick of the slowest kernel. */
const TICK_MS = 10
const NO_MODE = 0 as Mode

/**
 * Opens what has a name in a directory, with the rights of `createIn`. @returns undefined if the caller cannot reach
 * it
 */
export function standing(caller: Caller, dir: Handle, name: PathBytes): Fd | undefined {
  const open = (): Fd => openat(dir.raw, name, O_PATH | O_NOFOLLOW)
  return orUndefined('any', () => createIn(caller, dir, NO_MODE, steps.inDirectory, open, 'look'))
}

export const isMadeSince = (file: Handle, { since }: RecoveryTrace): boolean => timesOf(file).born >= since - TICK_MS

/**
 * Notes that a name does not exist; called right before a file is made. Without this note, if an engine ends here,
 * the next one could take a file that a previous call made under the same name for this call's, since only their
 * times would tell.
 */
export function noteAbsence(caller: Caller, dir: Handle, name: PathBytes): void {
  if (isAbsent(dir, name)) caller.note(WAS_NOT)
}

export const wasAbsent = ({ note }: RecoveryTrace): boolean => note === WAS_NOT

export const isChangedSince = (file: Handle, { since }: RecoveryTrace): boolean =>
  timesOf(file).changed >= since - TICK_MS

/**
 * Tells whether a file has the type and device number that were asked for. A umask or an access list may have removed
 * mode bits, but nothing adds any.
 */
export function isNode(file: Handle, asked: Mode, dev: Dev): boolean {
  const { mode } = statx(file.raw)
  return fileType(mode) === fileType(asked) && deviceOf(file) === dev && (mode & ~asked & 0o777) === 0
}

/** Returns the marks that identify an inode; its other marks may change between two calls. */
export function inodeOf(file: Handle): readonly Mark[] {
  const { dev, ino } = statx(file.raw)
  return [dev, ino]
}

interface Node {
  readonly dir: Handle
  readonly name: PathBytes
  readonly mode: Mode
  readonly dev: Dev
}

/** The replay rules of acts that create a name: the repeated call would fail with EEXIST. */
export const ONCE_NAMED: Replayable<Node> = {
  unrepeatedErrno: errno('EEXIST'),
  key: ({ dir, name, mode, dev }) => [...inodeOf(dir), name, mode, dev],
  fingerprint({ dir, name }, caller) {
    using node = standing(caller, dir, name)
    return node && marksOf(node)
  },
}
