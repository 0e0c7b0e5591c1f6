import type { PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import {
  FSCONFIG as command,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  FSPICK_CLOEXEC,
  FSPICK_EMPTY_PATH,
  FSPICK_SYMLINK_NOFOLLOW,
  FSPICK_VALID,
  isFsmountAttributes,
} from '../abi/mount.ts'
import { WAS_NOT } from '../calls/act.ts'
import type { Caller, Registers } from '../calls/caller.ts'
import type { Context, Parameter } from '../calls/context.ts'
import type { Syscall } from '../calls/syscall.ts'
import { act, continueWith, refuse, type Verdict } from '../calls/verdict.ts'
import type { Handle } from '../kernel/fd.ts'
import { delegates } from '../policy/policy.ts'
import { askedBy, delegate, delegating, isBpffs, ofBpffs } from './delegate.ts'
import { isVerdict, saysOwner, toChange } from './mount.ts'
import { isGeneralFlag, judgeParameter } from './mount-options.ts'
import { superblockRequest } from './mount-source.ts'
import { judgeKept, judgeMounter, judgeType, type MountPolicy, mannerOf } from './mount-types.ts'

/** Maximum size of a parameter of bytes: linux/fs/fsopen.c fsconfig(). */
const BYTES_MAX = 1024 * 1024

/** Commands that set a parameter which is neither a flag nor a string. */
const OF_OTHER_KINDS: ReadonlySet<number> = new Set([
  command.SET_BINARY,
  command.SET_PATH,
  command.SET_PATH_EMPTY,
  command.SET_FD,
])

interface Shape {
  readonly key: boolean
  readonly value: boolean
  readonly aux: (aux: number) => boolean
}

const isZero = (aux: number): boolean => aux === 0
const COMMAND: Shape = { key: false, value: false, aux: isZero }
const PATH: Shape = { key: true, value: true, aux: (aux) => aux === AT_FDCWD || aux >= 0 }

/** What the kernel takes of the arguments of each command that we serve. */
const SHAPES: Readonly<Partial<Record<number, Shape>>> = {
  [command.SET_FLAG]: { key: true, value: false, aux: isZero },
  [command.SET_STRING]: { key: true, value: true, aux: isZero },
  [command.SET_BINARY]: { key: true, value: true, aux: (aux) => aux > 0 && aux <= BYTES_MAX },
  [command.SET_PATH]: PATH,
  [command.SET_PATH_EMPTY]: PATH,
  [command.SET_FD]: { key: true, value: false, aux: (aux) => aux >= 0 },
  [command.CMD_CREATE]: COMMAND,
  [command.CMD_CREATE_EXCL]: COMMAND,
  [command.CMD_RECONFIGURE]: COMMAND,
}

/** Tells whether fsconfig(2) has valid arguments; otherwise the kernel answers EINVAL for any descriptor. */
function isWellFormed(args: Registers): boolean {
  const shape = SHAPES[args.uint(1)]
  if (!shape) return false
  const [hasKey, hasValue] = [args.pointer(2) !== 0n, args.pointer(3) !== 0n]
  return hasKey === shape.key && hasValue === shape.value && shape.aux(args.int(4))
}

const IN_MEMORY = 'all: their object is in memory, or behind a descriptor'

/** Maximum size of a string with its NUL, in bytes: linux/fs/fsopen.c fsconfig(). */
const STRING = 256
/**
 * File systems without any parameter of another kind than flags and strings: the kernel refuses those. Of another type
 * the kernel might take one, which a context of ours would lack.
 */
const STRINGS_ONLY: ReadonlySet<string> = new Set([
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'squashfs', 'erofs', 'hugetlbfs', 'tmpfs'],
])
const CREATES: ReadonlySet<number> = new Set([command.CMD_CREATE, command.CMD_CREATE_EXCL])
const isSetting = (code: number): boolean => !CREATES.has(code) && code !== command.CMD_RECONFIGURE

/**
 * fsopen(2): gives the caller a context in which no file system is ever made. Its parameters are recorded, and set in
 * a context of our own when the file system is made. If the container held our context, it could mount the file
 * system by itself and open devices on it.
 */
export const fsopen: Syscall<{ readonly type: string | undefined; readonly cloexec: boolean }> = {
  name: 'fsopen',
  key: 'mount',
  trapped: IN_MEMORY,
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    return (args.uint(1) & ~FSOPEN_CLOEXEC) === 0 ? undefined : continueWith('changesMounts')
  },
  decode: (args, memory) => ({ type: memory.string(args.pointer(0)), cloexec: args.uint(1) === FSOPEN_CLOEXEC }),
  decide({ type, cloexec }, caller, { mount }) {
    if (!mount) return continueWith('keyOff')
    // mount(8) passes a null pointer to find out whether the kernel has this call.
    if (type === undefined) return continueWith('changesMounts')
    const verdict = judgeType(type, mount) ?? judgeMounter(caller, type)
    if (verdict) return verdict
    // On ENOSYS libmount assumes a kernel without this call, and uses mount(2).
    if (mount.fuse.has(type)) return refuse('fuseByMount', errno('ENOSYS'))
    caller.mounts.tidy()
    caller.mounts.namespace()
    return act({ verb: 'openContext', type, cloexec })
  },
}

interface FsconfigRequest {
  readonly fd: number
  readonly command: number
  readonly parameter: Parameter | undefined
}

/**
 * fsconfig(2): records a parameter, and lets the kernel set it in the caller's context too, so that the kernel checks
 * it and puts its error message where the caller reads it.
 */
export const fsconfig: Syscall<FsconfigRequest> = {
  name: 'fsconfig',
  key: 'mount',
  also: delegating,
  trapped: `${IN_MEMORY}; for the keys bpf.delegate_* only FSCONFIG_SET_STRING and FSCONFIG_CMD_CREATE`,
  screen(args, policy) {
    if (!policy.mount && !delegates(policy)) return continueWith('keyOff')
    return isWellFormed(args) ? undefined : continueWith('changesMounts')
  },
  decode(args, memory) {
    const code = args.uint(1)
    const key = isSetting(code) ? memory.string(args.pointer(2), STRING) : undefined
    const value = code === command.SET_STRING ? memory.string(args.pointer(3), STRING) : undefined
    return { fd: args.int(0), command: code, parameter: key === undefined ? undefined : parameterOf(key, value) }
  },
  decide({ fd, command: code, parameter }, caller, policy) {
    const { mount } = policy
    const context = caller.mounts.context(fd)
    const asked = parameter && delegates(policy) ? askedBy(parameter) : undefined
    if (asked && (!context || isBpffs(context))) return delegate({ fd, asked, context }, caller, policy)
    if (context && isBpffs(context)) return ofBpffs(context, code, caller, policy)
    if (!context) return continueWith('foreignContext')
    if (!mount) return continueWith('keyOff')
    if (code === command.CMD_RECONFIGURE) return change(context, caller, mount)
    if (CREATES.has(code)) return make(context, code === command.CMD_CREATE_EXCL, caller, mount)
    // Once fsmount(2) has used it, the kernel accepts parameters again: for CMD_RECONFIGURE, which is left to it.
    if (context.isUsed) return continueWith('contextTold')
    if (isOver(context)) return refuse('contextOver', errno('EBUSY'))
    if (OF_OTHER_KINDS.has(code) && parameter && !isGeneralFlag(parameter))
      return STRINGS_ONLY.has(context.type)
        ? continueWith('contextTold')
        : refuse('parameterNotServed', errno('EOPNOTSUPP'))
    if (context.picked && parameter && saysOwner(parameter)) return act({ verb: 'report', writes: [] })
    const refused = parameter && judgeParameter(context.type, parameter)
    if (refused) return refused
    // The kernel takes it as a string only: linux/fs/fs_context.c vfs_parse_fs_param_source()
    if (parameter?.[0] === 'source' && parameter[1] === undefined) return continueWith('contextTold')
    if (parameter && !note(context, parameter)) return refuse('contextFull', errno('E2BIG'))
    return continueWith('contextTold')
  },
}

const parameterOf = (key: string, value: string | undefined): Parameter => (value === undefined ? [key] : [key, value])

const isOver = ({ made, hasFailed }: Context): boolean => made !== undefined || hasFailed

const isSame = ([key, value]: Parameter, [other, otherValue]: Parameter): boolean =>
  key === other && value === otherValue

/**
 * Records a parameter, unless it repeats. The kernel accepts one source only. A call that was interrupted and made
 * again, or taken over by another engine, has been recorded already: setting a parameter twice in a row has no
 * meaning.
 */
function note(context: Context, parameter: Parameter): boolean {
  const { parameters } = context
  const last = parameters.at(-1)
  const again =
    (last && isSame(last, parameter)) || (parameter[0] === 'source' && parameters.some(([key]) => key === 'source'))
  return again || context.add(parameter)
}

/** A context of fsopen(2) is none for that: the kernel says EBUSY. */
function change(context: Context, caller: Caller, policy: MountPolicy): Verdict {
  const { picked, hasFailed } = context
  if (hasFailed) return refuse('contextOver', errno('EBUSY'))
  if (!picked) return continueWith('changesMounts')
  const verdict = judgeMounter(caller) ?? judgeKept(context, policy)
  if (verdict) return verdict
  caller.mounts.namespace()
  return act({ verb: 'reconfigure', context, picked })
}

function make(context: Context, exclusive: boolean, caller: Caller, policy: MountPolicy): Verdict {
  if (context.picked) return continueWith('changesMounts')
  const verdict = judgeMounter(caller) ?? judgeKept(context, policy)
  if (verdict) return verdict
  if (context.made) return act({ verb: 'create', context })
  if (context.hasFailed && caller.noted !== WAS_NOT) return refuse('contextOver', errno('EBUSY'))
  caller.mounts.tidy()
  caller.mounts.namespace()
  return act({ verb: 'create', context, description: superblockRequest(context, exclusive, caller) })
}

interface Mounted {
  readonly fd: number
  readonly cloexec: boolean
  readonly attributes: bigint
}

/** fsmount(2): makes a mount of the context's file system, locked as the policy says before the caller gets it. */
export const fsmount: Syscall<Mounted> = {
  name: 'fsmount',
  key: 'mount',
  trapped: IN_MEMORY,
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    const taken = (args.uint(1) & ~FSMOUNT_CLOEXEC) === 0 && isFsmountAttributes(BigInt(args.uint(2)))
    return taken ? undefined : continueWith('changesMounts')
  },
  decode: (args) => ({ fd: args.int(0), cloexec: args.uint(1) === FSMOUNT_CLOEXEC, attributes: BigInt(args.uint(2)) }),
  decide({ fd, cloexec, attributes }, caller, { mount }) {
    if (!mount) return continueWith('keyOff')
    const context = caller.mounts.context(fd)
    if (!context) return continueWith('foreignContext')
    if (isBpffs(context)) return continueWith('kernelMountsIt')
    const verdict = judgeMounter(caller) ?? judgeKept(context, mount)
    if (verdict) return verdict
    const isBegun = caller.noted !== 0n || (context.isUsed && caller.mayComeAgain)
    if (!context.made || (context.isUsed && !isBegun)) return continueWith('contextUnready')
    caller.mounts.namespace()
    const manner = mannerOf(context.type, mount)
    // The kernel mounts a context once. If an engine ended in this call, or a signal has cancelled it, it is unknown
    // whether the kernel did, so the file system is made anew.
    const anew = isBegun ? { anew: superblockRequest(context, false, caller) } : {}
    return act({ verb: 'mountContext', context, made: context.made, attributes, cloexec, manner, ...anew })
  },
}

interface Request {
  readonly dirfd: number
  readonly path: string | undefined
  readonly flags: number
}

/**
 * fspick(2): gives the caller a context of a tmpfs that we made for its container, in which nothing is ever changed.
 * Its parameters are recorded, as those of fsopen(2). Any other file system is left to the kernel, which opens a
 * context, and says EPERM when something is to be changed by that.
 */
export const fspick: Syscall<Request> = {
  name: 'fspick',
  key: 'mount',
  trapped: 'all: its object is a path',
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    return (args.uint(2) & ~FSPICK_VALID) === 0 ? undefined : continueWith('changesMounts')
  },
  decode: (args, caller) => ({ dirfd: args.int(0), path: caller.string(args.pointer(1)), flags: args.uint(2) }),
  decide({ dirfd, path, flags }, caller, { mount }) {
    if (!mount) return continueWith('keyOff')
    if (path === undefined || (path === '' && (flags & FSPICK_EMPTY_PATH) === 0)) return continueWith('changesMounts')
    caller.mounts.tidy()
    const found = toChange(caller, mount, () => rootOf(caller, dirfd, { path, flags }))
    if (isVerdict(found)) return found
    return act({ verb: 'pickContext', root: found.root, cloexec: (flags & FSPICK_CLOEXEC) !== 0 })
  },
}

function rootOf(
  caller: Caller,
  dirfd: number,
  { path, flags }: { readonly path: string; readonly flags: number },
): Handle {
  const bytes = Buffer.from(`${path || '.'}\0`, 'latin1') as Uint8Array as PathBytes
  return caller.object(dirfd, bytes, path === '' || (flags & FSPICK_SYMLINK_NOFOLLOW) === 0)
}
