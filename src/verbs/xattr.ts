import type { PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, SYSFS_MAGIC } from '../abi/stat.ts'
import { XATTR_CREATE, XATTR_LIST_MAX, XATTR_SIZE_MAX } from '../abi/xattr.ts'
import type { Effect, Verb, Verbs } from '../calls/act.ts'
import type { Caller } from '../calls/caller.ts'
import { steps } from '../calls/steps.ts'
import { ContinueError } from '../calls/verdict.ts'
import { isErrno, orUndefined, SyscallError } from '../kernel/error.ts'
import type { Handle } from '../kernel/fd.ts'
import { fstatfs, marksOf } from '../kernel/files.ts'
import * as kernel from '../kernel/xattr.ts'
import { allowedBy } from '../policy/attributes.ts'
import { inodeOf, isChangedSince } from './create.ts'

/**
 * The attribute that is served without being listed: on a directory of an upper layer it hides what lower layers have
 * under its name.
 */
export const OPAQUE = Buffer.from('trusted.overlay.opaque\0') as Uint8Array as PathBytes
export const YES = Buffer.from('y')

/**
 * In these a container has thousands of files that cost it nothing, no overlay has a layer, and systemd keeps
 * attributes by which it decides.
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

/** What is set; undefined to remove. */
type To = { readonly value: Uint8Array; readonly flags: number } | undefined

/**
 * Sets or removes an attribute: where the kernel keeps much in memory for it, by a mounter in the caller's groups. That
 * is always so on an overlay, which first copies up the file with its contents and all of its attributes. Of an overlay
 * that a container has made nobody knows how long they are: its lower layer may be a FUSE file system.
 */
function change(caller: Caller, { inode, name }: Verbs['removexattr'], to: To): Effect {
  const { type } = fstatfs(inode)
  if (OF_KERNEL.has(type)) throw new ContinueError('ofKernel')
  // The one byte of OPAQUE is little beside what the file costs.
  const bytes = to && name !== OPAQUE ? name.length + to.value.length : 0
  if (type === OVERLAYFS_SUPER_MAGIC || (bytes > 0 && caller.mustBeCharged(inode, bytes)))
    caller.act(steps.askMounter, () => caller.mounts.changeAttribute(inode, name, to))
  else
    asAdmin(caller, inode, (named) =>
      to ? kernel.setxattr(named, name, to.value, to.flags) : kernel.removexattr(named, name),
    )
  return { value: 0n }
}

export const setxattr: Verb<Verbs['setxattr']> = {
  steps: [steps.attribute, steps.askMounter],
  safe:
    'Only trusted.overlay.opaque is set, and only to y, which hides lower layers of an overlay under the same path; and ' +
    'attributes that the administrator names, never one by which the kernel or a security module decides. ' +
    'What the kernel keeps in memory is charged to the container once it is more than a megabyte, and all that an ' +
    `overlay copies up. ${WHERE}`,
  run: ({ value, flags, ...named }, caller) => change(caller, named, { value, flags }),
  recover(act, caller, trace) {
    const isDone = (act.flags & XATTR_CREATE) !== 0 && hasValue(caller, act) && isChangedSince(act.inode, trace)
    return isDone ? { value: 0n } : undefined
  },
  once: {
    conflictErrno: errno('EEXIST'),
    isReplayable: ({ flags }) => (flags & XATTR_CREATE) !== 0,
    key: ({ inode, name, value }) => [...inodeOf(inode), name, value],
    fingerprint: (act, caller) => (hasValue(caller, act) ? marksOf(act.inode) : undefined),
  },
}

export const removexattr: Verb<Verbs['removexattr']> = {
  steps: [steps.attribute, steps.askMounter],
  safe: `Only attributes that \`setxattr\` sets are removed. ${SAME}`,
  run: (act, caller) => change(caller, act, undefined),
  recover(act, caller, trace) {
    return !currentValue(caller, act) && isChangedSince(act.inode, trace) ? { value: 0n } : undefined
  },
  once: {
    conflictErrno: errno('ENODATA'),
    key: ({ inode, name }) => [...inodeOf(inode), name],
    fingerprint: (act, caller) => (currentValue(caller, act) ? undefined : marksOf(act.inode)),
  },
}

/** Returns the value of an attribute, in the buffer of this thread; undefined if there is none. */
const currentValue = (caller: Caller, { inode, name }: Verbs['removexattr']): Uint8Array | undefined =>
  orUndefined('any', () =>
    bytes.subarray(
      0,
      asAdmin(caller, inode, (named) => kernel.getxattr(named, name, bytes), 'look'),
    ),
  )

const hasValue = (caller: Caller, act: Verbs['setxattr']): boolean => {
  const value = currentValue(caller, act)
  return value !== undefined && Buffer.compare(value, act.value) === 0
}

/** The buffer of this thread. What the kernel returns in it is written to the caller before it is used again. */
const bytes = new Uint8Array(XATTR_SIZE_MAX)

const answer = (length: number, at: bigint, size: number): Effect =>
  size === 0 ? { value: BigInt(length) } : { value: BigInt(length), writes: [{ at, bytes: bytes.subarray(0, length) }] }

export const getxattr: Verb<Verbs['getxattr']> = {
  steps: [steps.attribute],
  safe: `Only attributes that \`setxattr\` sets are read. ${SAME}`,
  run({ inode, name, at, size }, caller) {
    const valueBuffer = bytes.subarray(0, Math.min(size, XATTR_SIZE_MAX))
    const length = asAdmin(caller, inode, (named) => kernel.getxattr(named, name, valueBuffer))
    return answer(length, at, size)
  },
}

export const listxattr: Verb<Verbs['listxattr']> = {
  steps: [steps.attribute],
  safe: `Only names of attributes that \`setxattr\` sets are added to what the kernel lists for the caller. ${SAME}`,
  run({ inode, at, size, allowed }, caller) {
    const served = servedNames(caller, inode, allowed)
    // The kernel's own list is complete then.
    if (served.length === 0) throw new ContinueError('attributeAbsent')
    return answer(listFor(caller, inode, served, size), at, size)
  },
}

const OPAQUE_NAME = Buffer.from(OPAQUE.subarray(0, -1)).toString()

/** Returns the names that `action` lists into `bytes`. */
function namesOf(action: (into: Uint8Array) => number): readonly string[] {
  const length = action(bytes)
  return Buffer.from(bytes.buffer, 0, length).toString('latin1').split('\0').slice(0, -1)
}

/** Returns the names of an inode that are served; none where a file system does not tell. */
function servedNames(caller: Caller, inode: Handle, allowed: ReadonlySet<string>): readonly string[] {
  const all = orUndefined('any', () =>
    namesOf((into) => asAdmin(caller, inode, (named) => kernel.listxattr(named, into))),
  )
  return (all ?? []).filter((name) => name === OPAQUE_NAME || allowedBy(allowed, name) !== undefined)
}

/** Lists the names for the caller into `bytes`, then `served`, unless they are among them. @returns their length */
function listFor(caller: Caller, inode: Handle, served: readonly string[], size: number): number {
  const named = { links: caller.descriptors, inode }
  const names = namesOf((into) => caller.act(steps.asCaller, () => kernel.listxattr(named, into)))
  const all = [...names, ...served.filter((name) => !names.includes(name))]
  const list = Buffer.from(all.map((name) => `${name}\0`).join(''), 'latin1')
  if (size > 0 && list.length > Math.min(size, XATTR_LIST_MAX))
    throw new SyscallError('listxattr', errno(size >= XATTR_LIST_MAX ? 'E2BIG' : 'ERANGE'))
  if (size > 0) bytes.set(list)
  return list.length
}
