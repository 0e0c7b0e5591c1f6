import type { Dev, Mode, PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { O_NOFOLLOW, O_PATH } from '../abi/fcntl.ts'
import { fileType, S_ISGID, S_IXGRP } from '../abi/stat.ts'
import { type Mark, type RecoveryTrace, type Replayable, WAS_NOT } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { OWN, type Step, steps } from '../calls/steps.ts'
import { isErrno, orUndefined } from '../kernel/error.ts'
import type { Fd, Handle } from '../kernel/fd.ts'
import { deviceOf, isAbsent, marksOf, openat, statx, timesOf } from '../kernel/files.ts'

/** Mode bits that the kernel changes together for a caller without CAP_FSETID; linux/fs/inode.c mode_strip_sgid(). */
const SGID_AND_GROUP_EXECUTE = S_ISGID | S_IXGRP

/** Capabilities by which a caller may enter a directory; the one that allows more comes first. */
const OVER_FILES = ['DAC_OVERRIDE', 'DAC_READ_SEARCH'] as const

/**
 * Creates a file in `dir` as the caller: first without any capability over files, so that success is the kernel's own
 * answer. Only if that is refused, and only if the directory belongs to the container, the caller's own capabilities
 * are added. Even the right to search without the right to write matters, since EEXIST comes before EACCES.
 */
export function createIn<T>(
  caller: Caller,
  dir: Handle,
  mode: Mode,
  step: Step,
  make: (own: number) => T,
  how: 'act' | 'look' = 'act',
): T {
  const keeps = (mode & SGID_AND_GROUP_EXECUTE) === SGID_AND_GROUP_EXECUTE && caller.commands(dir, 'FSETID')
  const own = keeps ? OWN.FSETID : 0
  try {
    return caller[how](step, () => make(own), own)
  } catch (error) {
    const cap = isErrno(error, 'EACCES') ? OVER_FILES.find((each) => caller.commands(dir, each)) : undefined
    if (!cap) throw error
    const all = own | OWN[cap]
    return caller[how](step, () => make(all), all)
  }
}

/**
 * How far the timestamps of a file system may lag, in milliseconds. They come from a clock that only ticks of one
 * processor advance, and the host of a virtual machine may give that processor no time while another one serves a call.
 */
const LAG_MS = 1000
/** The same where nothing else tells that a change is of this call: a tick of the slowest kernel. */
const TICK_MS = 10
const NO_MODE = 0 as Mode

const SLASH = 0x2f
/** The kernel would follow a link of this name, from our root directory; and it makes nothing of such a name. */
const endsInSlash = (name: PathBytes): boolean => name.at(-2) === SLASH

/**
 * Opens what has a name in a directory, with the rights of `createIn`. @returns undefined if the caller cannot reach
 * it, or nothing can have been made there
 */
export function standing(caller: Caller, dir: Handle, name: PathBytes): Fd | undefined {
  if (endsInSlash(name)) return undefined
  const open = (): Fd => openat(dir.raw, name, O_PATH | O_NOFOLLOW)
  return orUndefined('any', () => createIn(caller, dir, NO_MODE, steps.inDirectory, open, 'look'))
}

/** Tells whether a file that was noted to be absent is new, and not an older one that was moved there meanwhile. */
export const isMadeSince = (file: Handle, { since }: RecoveryTrace): boolean => timesOf(file).born >= since - LAG_MS

/**
 * Notes that a name does not exist; called right before a file is made. Without this note, if an engine ends here,
 * the next one could take a file that a previous call made under the same name for this call's, since only their
 * times would tell.
 */
export function noteAbsence(caller: Caller, dir: Handle, name: PathBytes): void {
  if (!endsInSlash(name) && isAbsent(dir, name)) caller.note(WAS_NOT)
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
  conflictErrno: errno('EEXIST'),
  key: ({ dir, name, mode, dev }) => [...inodeOf(dir), name, mode, dev],
  fingerprint({ dir, name }, caller) {
    using node = standing(caller, dir, name)
    return node && marksOf(node)
  },
}
