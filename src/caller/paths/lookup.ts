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
import { PROC_SUPER_MAGIC } from '../../abi/stat.ts'
import { isErrno, orFalse, SyscallError } from '../../kernel/error.ts'
import type { Fd } from '../../kernel/fd.ts'
import { fileSystemType, openat2 } from '../../kernel/files.ts'
import { containsDotDot, isAbsolute, type LookupKind, type LookupRequest, type LookupStart } from './lookup-types.ts'
import { notFollowed } from './procfs.ts'
import { walk } from './procfs-walk.ts'

/**
 * Flags of openat2(2) by kind. A lookup opens only O_PATH handles: opening the object could block or have an effect
 * on a device.
 */
const FLAGS: Readonly<Record<LookupKind, number>> = {
  directory: O_PATH | O_DIRECTORY,
  object: O_PATH,
  link: O_PATH | O_NOFOLLOW,
  outsideProc: O_PATH,
}

/**
 * Errors after which the quick lookup is repeated without its restrictions: ELOOP, it met a symbolic link; EAGAIN,
 * the kernel would have to ask the file system.
 */
const NOT_ENOUGH: ReadonlySet<number> = new Set([errnos.ELOOP, errnos.EAGAIN])

/**
 * Errors after which the path is walked component by component: ELOOP, a magic link of procfs; ENOENT, `self` names
 * our thread, which the container's procfs does not have; EACCES, the kernel checks ptrace access before
 * RESOLVE_NO_MAGICLINKS.
 */
const MAY_BE_PROC: ReadonlySet<number> = new Set([errnos.ELOOP, errnos.ENOENT, errnos.EACCES])

/**
 * Opens what `goal` names, as the caller, whose ids and groups the calling thread has. The first attempt uses only
 * the kernel's caches (RESOLVE_CACHED), so it cannot block. Magic links of procfs, which lead to an object instead of
 * a path, are not followed, since `self` would be the engine for this thread. A path is walked component by component
 * only if it failed with an error that such a link can explain, or if it ended in procfs.
 *
 * @param mayBlock called before the file system may have to be asked
 * @throws {SyscallError} what the kernel says; EACCES also for a FUSE file system, which admits only processes of its
 *   own user namespace
 */
export function lookup(start: LookupStart, goal: LookupRequest, mayBlock: () => void): Fd {
  try {
    const found = quickly(start, goal) ?? usually(start, goal, mayBlock)
    // Only a file system that asks a server can fail here, and procfs asks none.
    if (!orFalse('any', () => fileSystemType(found) === PROC_SUPER_MAGIC)) return found
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
 * Looks up without changing the root of the thread: an absolute path below the caller's root (RESOLVE_IN_ROOT), or a
 * relative path without `..` and symbolic links, whose result does not depend on the root.
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
