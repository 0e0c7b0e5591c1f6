import type { PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, SYSFS_MAGIC } from '../abi/stat.ts'
import { XATTR_CREATE, XATTR_LIST_MAX, XATTR_SIZE_MAX } from '../abi/xattr.ts'
import type { Effect, Verb, Verbs } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { isErrno, orFalse, SyscallError } from '../kernel/error.ts'
import type { Handle } from '../kernel/fd.ts'
import { fstatfs, marksOf } from '../kernel/files.ts'
import * as kernel from '../kernel/xattr.ts'
import { inodeOf, isChangedSince } from './create.ts'

/**
 * The only attribute that is served: on a directory of an upper layer it hides what lower layers have under its name.
 */
export const OPAQUE = Buffer.from('trusted.overlay.opaque\0') as Uint8Array as PathBytes
export const YES = Buffer.from('y')

const NOTHING = new Uint8Array(0)
/**
 * In these a container has thousands of files that cost it nothing, and no overlay has a layer there. The kernel
 * charges an attribute to us: on a file of a tmpfs that is an eighth of what the container pays for the file.
 */
const OF_KERNEL: ReadonlySet<number> = new Set([CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, SYSFS_MAGIC])

const WHERE =
  'The inode was reached as the caller, its handle opens nothing, and its owner and group are mapped in the ' +
  "container's initial user namespace."
const SAME = 'The inode is as for `setxattr`.'

/**
 * Runs `action` with CAP_SYS_ADMIN. EACCES only comes from a FUSE file system of the container, which refuses the
 * engine before it looks at the caller: nothing was done, so the kernel may judge.
 */
function asAdmin<T>(caller: Caller, inode: Handle, action: (named: kernel.Named) => T, how: 'act' | 'look' = 'act'): T {
  const named = { links: caller.descriptors, inode }
  try {
    return caller[how](steps.attribute, () => action(named))
  } catch (error) {
    if (isErrno(error, 'EACCES')) throw new ContinueError('closedToUs')
    throw error
  }
}

export const setxattr: Verb<Verbs['setxattr']> = {
  steps: [steps.attribute],
  safe:
    'Only trusted.overlay.opaque is set, and only to y, which hides lower layers of an overlay under the same path. ' +
    WHERE,
  run({ inode, flags }, caller) {
    if (OF_KERNEL.has(fstatfs(inode).type)) throw new ContinueError('ofKernel')
    asAdmin(caller, inode, (named) => kernel.setxattr(named, OPAQUE, YES, flags))
    return { value: 0n }
  },
  recover({ inode, flags }, caller, trace) {
    const isDone = (flags & XATTR_CREATE) !== 0 && isOpaque(caller, inode) && isChangedSince(inode, trace)
    return isDone ? { value: 0n } : undefined
  },
  once: {
    conflictErrno: errno('EEXIST'),
    isReplayable: ({ flags }) => (flags & XATTR_CREATE) !== 0,
    key: ({ inode }) => inodeOf(inode),
    fingerprint: ({ inode }, caller) => (isOpaque(caller, inode) ? marksOf(inode) : undefined),
  },
}

export const removexattr: Verb<Verbs['removexattr']> = {
  steps: [steps.attribute],
  safe: `Only trusted.overlay.opaque is removed. ${SAME}`,
  run({ inode }, caller) {
    asAdmin(caller, inode, (named) => kernel.removexattr(named, OPAQUE))
    return { value: 0n }
  },
  recover({ inode }, caller, trace) {
    return !isOpaque(caller, inode) && isChangedSince(inode, trace) ? { value: 0n } : undefined
  },
  once: {
    conflictErrno: errno('ENODATA'),
    key: ({ inode }) => inodeOf(inode),
    fingerprint: ({ inode }, caller) => (isOpaque(caller, inode) ? undefined : marksOf(inode)),
  },
}

/** Tells whether the inode has the attribute, whatever its value. */
const isOpaque = (caller: Caller, inode: Handle): boolean =>
  orFalse('any', () => asAdmin(caller, inode, (named) => kernel.getxattr(named, OPAQUE, NOTHING), 'look') > 0)

/** The buffer of this thread. What the kernel returns in it is written to the caller before it is used again. */
const bytes = new Uint8Array(XATTR_SIZE_MAX)

const answer = (length: number, at: bigint, size: number): Effect =>
  size === 0 ? { value: BigInt(length) } : { value: BigInt(length), writes: [{ at, bytes: bytes.subarray(0, length) }] }

export const getxattr: Verb<Verbs['getxattr']> = {
  steps: [steps.attribute],
  safe: `Only trusted.overlay.opaque is read. ${SAME}`,
  run({ inode, at, size }, caller) {
    const valueBuffer = bytes.subarray(0, Math.min(size, XATTR_SIZE_MAX))
    const length = asAdmin(caller, inode, (named) => kernel.getxattr(named, OPAQUE, valueBuffer))
    return answer(length, at, size)
  },
}

export const listxattr: Verb<Verbs['listxattr']> = {
  steps: [steps.attribute],
  safe: `Only trusted.overlay.opaque is added to the names that the kernel lists for the caller. ${SAME}`,
  run({ inode, at, size }, caller) {
    mustHaveOpaque(caller, inode)
    return answer(listFor(caller, inode, size), at, size)
  },
}

/** Requires the attribute. @throws {ContinueError} if it is absent, since the kernel's own list is complete then */
function mustHaveOpaque(caller: Caller, inode: Handle): void {
  try {
    asAdmin(caller, inode, (named) => kernel.getxattr(named, OPAQUE, bytes.subarray(0, 0)))
  } catch (error) {
    throw error instanceof SyscallError ? new ContinueError('attributeAbsent') : error
  }
}

const OPAQUE_NAME = Buffer.from(OPAQUE.subarray(0, -1)).toString()

/**
 * Lists the names into `bytes`, with OPAQUE added unless the file system lists it to everybody. @returns their length
 */
function listFor(caller: Caller, inode: Handle, size: number): number {
  const named = { links: caller.descriptors, inode }
  const length = caller.act(steps.asCaller, () => kernel.listxattr(named, bytes))
  const names = Buffer.from(bytes.buffer, 0, length).toString('latin1').split('\0')
  const whole = names.includes(OPAQUE_NAME) ? length : length + OPAQUE.length
  if (size > 0 && whole > Math.min(size, XATTR_LIST_MAX))
    throw new SyscallError('listxattr', errno(size >= XATTR_LIST_MAX ? 'E2BIG' : 'ERANGE'))
  if (whole > length && size > 0) bytes.set(OPAQUE, length)
  return whole
}
