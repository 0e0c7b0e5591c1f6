import type { Errno, PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import {
  laterOf,
  MS_DIRSYNC,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_SYNCHRONOUS,
} from '../abi/mount.ts'
import type { Caller } from '../calls/caller.ts'
import { act, type Verdict } from '../calls/verdict.ts'
import type { Handle } from '../kernel/fd.ts'
import { sourceOf } from './mount-source.ts'

/** Flags of mount(2) that FUSE programs know as options; other flags have no meaning for them. */
const FLAGS: readonly (readonly [flag: bigint, option: string])[] = [
  [MS_RDONLY, 'ro'],
  [MS_NOSUID, 'nosuid'],
  [MS_NODEV, 'nodev'],
  [MS_NOEXEC, 'noexec'],
  [MS_SYNCHRONOUS, 'sync'],
  [MS_DIRSYNC, 'dirsync'],
  [MS_NOATIME, 'noatime'],
  [MS_NODIRATIME, 'nodiratime'],
]

/**
 * Options for the access rules of a file system that the kernel mounts: every user may enter, and the modes of files
 * decide.
 */
const LIKE_KERNEL = ['allow_other', 'default_permissions']

/** Returns what a FUSE program gets after `-o`. @param data the options of mount(2), unchanged */
export function fuseOptions(flags: bigint, data = ''): string {
  const flagOptions = FLAGS.filter(([flag]) => (flags & flag) !== 0n).map(([, option]) => option)
  return [...flagOptions, ...LIKE_KERNEL, ...(data === '' ? [] : [data])].join(',')
}

/** Returns a path that a program cannot take for an option. */
export const asOperand = (path: string): string => (path.startsWith('-') ? `./${path}` : path)

/** A call of mount(2) for a file system of `mount.fuse`. */
interface Request {
  /** The FUSE program, as the policy names it. */
  readonly program: string
  readonly type: string
  readonly source: string | undefined
  readonly target: PathBytes
  readonly data: string | undefined
  readonly flags: bigint
}

/**
 * Mounts by a FUSE program, as `PROGRAM -o OPTIONS SOURCE TARGET`; it opens the source with the caller's own rights.
 */
export function byFuse(request: Request, caller: Caller, namespace: Handle): Verdict {
  const { program, type, source = type, target, data, flags } = request
  const mountPoint = Buffer.from(target.subarray(0, -1)).toString('latin1')
  return act({
    verb: 'fuse',
    ...caller.fuse.ready(program),
    args: ['-o', fuseOptions(flags, data), asOperand(source), asOperand(mountPoint)],
    target,
    namespace,
    attributes: laterOf(flags),
    otherwise: otherwise(caller, source, (flags & MS_RDONLY) === 0n),
  })
}

/**
 * Returns the errno for a failed program: what the kernel would have said of the source, or EINVAL, its errno for a
 * bad file system. A source need not be a path.
 */
function otherwise(caller: Caller, source: string, writable: boolean): Errno {
  if (!source.startsWith('/')) return errno('EINVAL')
  const { kind } = sourceOf(caller, source, writable)
  return 'errno' in kind ? kind.errno : errno('EINVAL')
}
