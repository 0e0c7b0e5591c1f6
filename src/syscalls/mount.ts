import type { PathBytes } from '../abi/brand.ts'
import { errno } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import {
  MNT_FORCE,
  MS_BIND,
  MS_MGC_MSK,
  MS_MGC_VAL,
  MS_MOVE,
  MS_NOATIME,
  MS_NODIRATIME,
  MS_NOUSER,
  MS_PRIVATE,
  MS_RDONLY,
  MS_REMOUNT,
  MS_SHARED,
  MS_SLAVE,
  MS_UNBINDABLE,
  timesIn,
  UMOUNT_NOFOLLOW,
  withoutMagic,
} from '../abi/mount.ts'
import type { Caller, Registers } from '../calls/caller.ts'
import type { Parameter } from '../calls/context.ts'
import { IN_MEMORY, TMPFS } from '../calls/mounts.ts'
import type { Condition, Syscall } from '../calls/syscall.ts'
import { act, continueWith, refuse, type Verdict } from '../calls/verdict.ts'
import type { Handle } from '../kernel/fd.ts'
import { byFuse } from './mount-fuse.ts'
import { isWritable, judgeOptions, optionNumber, optionsOf, optionsWithHostIds, timesOf } from './mount-options.ts'
import { sourceOf } from './mount-source.ts'
import { judgeMounter, judgeType, type MountPolicy, mannerOf } from './mount-types.ts'

/**
 * Tells whether a parameter is the owner of a tmpfs, which a change of the file system leaves as it is:
 * linux/mm/shmem.c shmem_reconfigure(). mount(8) repeats those that /proc/mounts shows, which are ids of the host, and
 * no ids of the container.
 */
export const saysOwner = ([key, value]: Parameter): boolean =>
  (key === 'uid' || key === 'gid') && value !== undefined && optionNumber(value) !== undefined

const ofOthers = (root: Handle, caller: Caller): Verdict =>
  continueWith(caller.mountedInside(root) ? 'kernelMountsIt' : 'remountsFileSystem')

/** A file system that stands and is to be changed for a caller: a tmpfs that we made for its container. */
interface Changed {
  /** The root of its mount. */
  readonly root: Handle
  readonly namespace: Handle
}

/**
 * Finds the file system that is to be changed. Who asks is looked at first: after the lookup the thread stands in the
 * caller's root directory.
 *
 * @param lookUp finds the root of its mount
 * @returns a verdict if it is not changed by us
 */
export function toChange(caller: Caller, { allowed }: MountPolicy, lookUp: () => Handle): Changed | Verdict {
  if (!allowed.has(TMPFS)) return ofOthers(lookUp(), caller)
  const judged = judgeMounter(caller)
  const namespace = judged ? undefined : caller.mounts.namespace()
  const root = lookUp()
  if (!caller.mounts.isMade(root)) return ofOthers(root, caller)
  return namespace ? { root, namespace } : judged!
}

export const isVerdict = (found: Changed | Verdict): found is Verdict => 'is' in found

/** Decides mount(2) with MS_REMOUNT. */
function remountOf({ root: target, namespace }: Changed, flags: bigint, data: string | undefined): Verdict {
  const judged = judgeOptions(TMPFS, data)
  if (judged) return judged
  const options = optionsOf(TMPFS, data).filter((option) => !saysOwner(option))
  const text = options.map((option) => option.join('=')).join(',')
  return act({ verb: 'remount', target, namespace, flags, ...(text && { data: text }) })
}

interface Request {
  readonly type: string | undefined
  readonly source: string | undefined
  readonly target: PathBytes
  readonly data: string | undefined
  readonly flags: bigint
}

const FLAGS = 3
const CHANGE = MS_REMOUNT | MS_BIND | MS_MOVE
const PROPAGATION = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE
/** Flags with which mount(2) makes no new file system, or fails. */
const OTHER = CHANGE | PROPAGATION | MS_NOUSER

const flagsOf = (args: Registers): bigint => withoutMagic(args.pointer(FLAGS))

/**
 * The flags with which mount(2) makes a new superblock, as fs/namespace.c path_mount() takes them apart: it first drops
 * the upper half if that is exactly the magic of the 1990s, which busybox still sets, and only then looks for
 * MS_PRIVATE and MS_SLAVE. The magic carries both bits, so one mask cannot tell it from a change of propagation.
 *
 * Bits above the 32nd are not compared: with the magic the kernel drops them too, without it they are EINVAL
 * (MS_NOUSER), trapped or not, and every bit of a mask costs a rule where a profile is merged.
 */
const isNewSuperblock: readonly Condition[] = [
  { arg: FLAGS, mask: MS_MGC_MSK | CHANGE, equals: MS_MGC_VAL },
  { arg: FLAGS, mask: PROPAGATION | CHANGE, equals: 0n },
]

/** The flags with which mount(2) changes a file system, not one mount of it; the magic has neither bit. */
const isRemount: Condition = { arg: FLAGS, mask: MS_REMOUNT | MS_BIND, equals: MS_REMOUNT }

/** The flags with which mount(2) sets the policy of access times of one mount. */
const setsAccessTimes: readonly Condition[] = [MS_NOATIME, MS_NODIRATIME].map((policy) => {
  const all = MS_REMOUNT | MS_BIND | policy
  return { arg: FLAGS, mask: all, equals: all }
})
const setsTimes = (flags: bigint): boolean => setsAccessTimes.some(({ mask, equals }) => (flags & mask) === equals)

const remounts = (flags: bigint): boolean => (flags & (MS_REMOUNT | MS_BIND)) === MS_REMOUNT

/**
 * Tells whether an option of a file system that is not in memory names its source. The kernel takes it if the call has
 * none, and it may be a name of the host's: linux/fs/fs_context.c vfs_parse_fs_param_source()
 */
const namesSource = (type: string, data: string | undefined): boolean =>
  !IN_MEMORY.has(type) && optionsOf(type, data).some(([key]) => key === 'source')

/**
 * mount(2): mounts the file systems of the policy for callers that are root in their container. Only calls that make a
 * new superblock are trapped, those that remount one to say why that fails, and the calls of the new mount API that
 * describe, make and attach a file system. Changes of attached mounts are not done here: the kernel judges them as the
 * container's own, and the attributes that we lock stay locked.
 */
export const mount: Syscall<Request> = {
  name: 'mount',
  key: 'mount',
  when: [...isNewSuperblock, isRemount, ...setsAccessTimes].map((condition) => [condition]),
  trapped:
    'the flags make or remount a superblock; or set noatime or nodiratime of a mount, only to explain the failure',
  screen(args, policy) {
    if (!policy.mount) return continueWith('keyOff')
    const flags = flagsOf(args)
    return (flags & OTHER) === 0n || remounts(flags) || setsTimes(flags) ? undefined : continueWith('changesMounts')
  },
  decode: (args, memory) => ({
    type: memory.string(args.pointer(2)),
    source: memory.string(args.pointer(0)),
    target: memory.path(args.pointer(1)),
    data: memory.options(args.pointer(4)),
    flags: flagsOf(args),
  }),
  decide({ type, source, target, data, flags }, caller, { mount: policy }) {
    if (!policy) return continueWith('keyOff')
    if (setsTimes(flags)) return timesOf(caller, caller.object(AT_FDCWD, target, true), timesIn(flags))
    if (remounts(flags)) {
      const found = toChange(caller, policy, () => caller.object(AT_FDCWD, target, true))
      return isVerdict(found) ? found : remountOf(found, flags, data)
    }
    if (type === undefined) return continueWith('changesMounts')
    const program = policy.fuse.get(type)
    const judged =
      judgeType(type, policy) ??
      judgeMounter(caller, type) ??
      (program === undefined ? judgeOptions(type, data) : undefined)
    if (judged) return judged
    if (program === undefined && source === undefined && namesSource(type, data))
      return refuse('namesHost', errno('EPERM'))
    caller.mounts.tidy()
    const namespace = caller.mounts.namespace()
    if (program !== undefined) return byFuse({ program, type, source, target, data, flags }, caller, namespace)
    const options = IN_MEMORY.has(type) ? optionsWithHostIds(caller, type, data) : data
    return act({
      verb: 'mount',
      target: caller.object(AT_FDCWD, target, true),
      namespace,
      call: {
        ...{ type, flags, ...mannerOf(type, policy) },
        source: sourceOf(caller, source, isWritable(optionsOf(type, data), (flags & MS_RDONLY) === 0n)),
        ...(options === undefined ? {} : { data: options }),
      },
    })
  },
}

const FLAGS_AT = 1
const isForced: Condition = { arg: FLAGS_AT, mask: BigInt(MNT_FORCE), equals: BigInt(MNT_FORCE) }

/** umount2(2): is left to the kernel. Only `umount -f` is trapped, to say why it fails. */
export const umount: Syscall<{ readonly path: PathBytes; readonly follow: boolean }> = {
  name: 'umount2',
  key: 'mount',
  when: [[isForced]],
  tells: true,
  trapped: 'MNT_FORCE is set; only to explain the failure',
  screen: (_args, policy) => (policy.mount ? undefined : continueWith('keyOff')),
  decode: (args, caller) => ({
    path: caller.path(args.pointer(0)),
    follow: (args.uint(FLAGS_AT) & UMOUNT_NOFOLLOW) === 0,
  }),
  decide: ({ path, follow }, caller) =>
    continueWith(caller.mountedInside(caller.object(AT_FDCWD, path, follow)) ? 'kernelMountsIt' : 'forcesUnmount'),
}
