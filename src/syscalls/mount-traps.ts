import type { Condition, Traps } from '../calls/rule.ts'

const MS_REMOUNT = 1n << 5n
const MS_BIND = 1n << 12n
const MS_MOVE = 1n << 13n
const MS_UNBINDABLE = 1n << 17n
const MS_PRIVATE = 1n << 18n
const MS_SLAVE = 1n << 19n
const MS_SHARED = 1n << 20n
const MS_MGC_MSK = 0xffff_0000n
const MS_MGC_VAL = 0xc0ed_0000n

const FLAGS = 3
const OTHER = MS_REMOUNT | MS_BIND | MS_MOVE
const PROPAGATION = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE

/**
 * The flags with which mount(2) makes a new superblock, as fs/namespace.c path_mount() takes them apart: it first drops
 * the upper half if that is exactly the magic of the 1990s, which busybox still sets, and only then looks for
 * MS_PRIVATE and MS_SLAVE. The magic carries both bits, so one mask cannot tell it from a change of propagation.
 *
 * Bits above the 32nd are not compared: with the magic the kernel drops them too, without it they are EINVAL
 * (MS_NOUSER), trapped or not, and every bit of a mask costs a rule where a profile is merged.
 */
const newSuperblock: readonly Condition[] = [
  { arg: FLAGS, mask: MS_MGC_MSK | OTHER, equals: MS_MGC_VAL },
  { arg: FLAGS, mask: PROPAGATION | OTHER, equals: 0n },
]

/**
 * mount(2): new superblocks only, and only if the policy names a file system. The new mount API (fsopen, fsconfig,
 * fsmount, fspick) is not trapped: its calls are one state machine over several descriptors, to be served all or none.
 */
export const mountTraps: Traps = {
  names: ['mount'],
  traps: ({ mount }) =>
    mount && mount.allowed.size + mount.fuse.size > 0
      ? newSuperblock.map((condition) => ({ name: 'mount', when: [condition] }))
      : [],
}
