import type { PathBytes } from '../abi/brand.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import {
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
  withoutMagic,
} from '../abi/mount.ts'
import type { Registers } from '../calls/caller.ts'
import { IN_MEMORY } from '../calls/mounts.ts'
import type { Condition } from '../calls/rule.ts'
import type { Syscall } from '../calls/syscall.ts'
import { act, continueWith } from '../calls/verdict.ts'
import { timesOf } from './access-times.ts'
import { optionsWithHostIds } from './memory-options.ts'
import { byFuse } from './mount-fuse.ts'
import { isWritable, judgeOptions, optionsOf } from './mount-options.ts'
import { sourceOf } from './mount-source.ts'
import { judgeMounter, judgeType, mannerOf } from './mount-types.ts'
import { isVerdict, remountOf, toChange } from './remount.ts'

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
