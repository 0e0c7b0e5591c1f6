import type { Errno, PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD, R_OK, W_OK } from '../abi/fcntl.ts'
import { ST_NODEV } from '../abi/mount.ts'
import { fileType, S_IFBLK } from '../abi/stat.ts'
import type { Caller } from '../calls/caller.ts'
import type { Source } from '../calls/mounts.ts'
import type { ReasonCode } from '../calls/reason.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { access } from '../kernel/access.ts'
import { isErrno } from '../kernel/error.ts'
import { deviceOf, fstatfs, statx } from '../kernel/files.ts'
import type { Handle } from '../kernel/handle.ts'

/** Of a path that the kernel, or a walk like its own, has followed. */
const TOLD: ReadonlySet<ReasonCode> = new Set(['pathNotResolved', 'crossesProc'])

/**
 * What the source leads to for the caller. Nothing is opened yet: that takes the caller's control groups. A type without a
 * device does not care, so a source that leads nowhere is no verdict yet.
 *
 * @param writable shall the file system be written to?
 */
export function sourceOf(caller: Caller, text: string | undefined, writable: boolean): Source {
  if (text === undefined) return { kind: { errno: errno('EINVAL') } }
  if (text === '') return { text, kind: { errno: errno('ENOENT') } }
  try {
    const node = caller.object(AT_FDCWD, Buffer.from(`${text}\0`, 'latin1') as Uint8Array as PathBytes, true)
    return { text, ...found(caller, node, writable) }
  } catch (error) {
    if (error instanceof ContinueError && TOLD.has(error.why.code) && error.why.a !== undefined)
      return { text, kind: { errno: error.why.a as Errno } }
    throw error
  }
}

function found(caller: Caller, node: Handle, writable: boolean): Source {
  if (fileType(statx(node.raw).mode) !== S_IFBLK) return { kind: { other: true } }
  // linux/fs/namei.c may_open_dev()
  if ((fstatfs(node).flags & ST_NODEV) !== 0) return { kind: { errno: errno('EACCES') } }
  const mode = R_OK | (writable ? W_OK : 0)
  if (!mayOpen(caller, node, mode)) return { kind: { errno: errno('EACCES') } }
  return { node, kind: { dev: deviceOf(node), writable } }
}

/** By its ids and groups, or by its own capability over the node. */
function mayOpen(caller: Caller, node: Handle, mode: number): boolean {
  try {
    caller.act(steps.asCaller, () => access(node, mode))
    return true
  } catch (error) {
    if (!isErrno(error, 'EACCES')) throw error
    return caller.commands(node, 'DAC_OVERRIDE')
  }
}
