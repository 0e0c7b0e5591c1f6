import { errnos } from '../../abi/errno.ts'
import {
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RESOLVE_CACHED,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
} from '../../abi/fcntl.ts'
import { PROC_SUPER_MAGIC } from '../../abi/magic.ts'
import { isErrno, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { fileSystemType, openat2 } from '../../kernel/files.ts'
import type { LookupKind, LookupRequest, LookupStart } from './lookup-types.ts'
import { containsDotDot, isAbsolute } from './path-bytes.ts'
import { notFollowed } from './procfs-entry.ts'
import { walk } from './procfs-walk.ts'

/** Only ever a handle: nothing that is looked for is opened, for that could wait, or do something to a device. */
const FLAGS: Readonly<Record<LookupKind, number>> = {
  directory: O_PATH | O_DIRECTORY,
  object: O_PATH,
  link: O_PATH | O_NOFOLLOW,
  outsideProc: O_PATH,
}

/** What a quick lookup gives that met a link, or would have to ask the file system. */
const NOT_ENOUGH: ReadonlySet<number> = new Set([errnos.ELOOP, errnos.EAGAIN])

/**
 * What a lookup gives that met a link of procfs, or looked for `self` where the looking thread does not exist. Whether it may look
 * at the task comes before that it does not follow the link.
 */
const MAY_BE_PROC: ReadonlySet<number> = new Set([errnos.ELOOP, errnos.ENOENT, errnos.EACCES])

/**
 * Opens what `goal` names as the caller, whose ids and groups the calling thread has. First from the kernel's
 * caches alone, which cannot block. Links of procfs that lead to an object instead of a name are not followed: for this
 * thread `self` is the engine. Only a path that failed in a way that such a link can explain, or that ended in procfs, is
 * taken apart.
 *
 * @param mayBlock called before the file system may have to be asked
 * @throws {SyscallError} what the kernel says: EACCES also for a FUSE file system, which only a process of its own user
 *   namespace may enter
 */
export function lookup(start: LookupStart, goal: LookupRequest, mayBlock: () => void): Fd {
  try {
    const found = quickly(start, goal) ?? usually(start, goal, mayBlock)
    if (fileSystemType(found) !== PROC_SUPER_MAGIC) return found
    found[Symbol.dispose]()
  } catch (error) {
    if (goal.wanted === 'outsideProc') throw error
    if (!(error instanceof SyscallError) || !MAY_BE_PROC.has(error.errno)) throw error
  }
  if (goal.wanted === 'outsideProc') throw notFollowed()
  mayBlock()
  start.stand()
  return walk(start, goal)
}

/**
 * Without changing the root of the thread: an absolute path below the caller's root, which the kernel takes for `/` then, and
 * a relative one that neither leads up nor meets a link, so that it does not matter where the root is.
 *
 * @returns undefined if that is not enough
 */
function quickly({ base }: LookupStart, { path, wanted }: LookupRequest): Fd | undefined {
  const absolute = isAbsolute(path)
  if (!absolute && containsDotDot(path)) return undefined
  const resolve = RESOLVE_CACHED | RESOLVE_NO_MAGICLINKS | (absolute ? RESOLVE_IN_ROOT : RESOLVE_NO_SYMLINKS)
  try {
    return openat2(base.raw, path, FLAGS[wanted], resolve)
  } catch (error) {
    if (error instanceof SyscallError && NOT_ENOUGH.has(error.errno)) return undefined
    throw error
  }
}

function usually(start: LookupStart, { path, wanted }: LookupRequest, mayBlock: () => void): Fd {
  start.stand()
  const open = (resolve: number): Fd => openat2(start.base.raw, path, FLAGS[wanted], RESOLVE_NO_MAGICLINKS | resolve)
  try {
    return open(RESOLVE_CACHED)
  } catch (error) {
    if (!isErrno(error, 'EAGAIN')) throw error
  }
  mayBlock()
  return open(0)
}
