import { AT_EMPTY_PATH } from '../abi/fcntl.ts'
import {
  MOVE_MOUNT_F_EMPTY_PATH,
  MS_BIND,
  MS_MGC_MSK,
  MS_MGC_VAL,
  MS_MOVE,
  MS_PRIVATE,
  MS_REMOUNT,
  MS_SHARED,
  MS_SLAVE,
  MS_UNBINDABLE,
} from '../abi/mount.ts'
import type { Condition, Traps } from '../calls/rule.ts'

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

/** Matches move_mount(2) of the mount that a descriptor is open for. */
const fromDescriptor: Condition = { arg: 4, mask: MOVE_MOUNT_F_EMPTY_PATH, equals: MOVE_MOUNT_F_EMPTY_PATH }

/** Matches mount_setattr(2) of the mount that a descriptor is open for. */
const ofDescriptor: Condition = { arg: 2, mask: BigInt(AT_EMPTY_PATH), equals: BigInt(AT_EMPTY_PATH) }

/**
 * Traps mount(2) for new superblocks only, and only if the policy names a file system, and the calls of the new mount
 * API that describe, make and attach a file system. Changes of attached mounts are not trapped: the kernel judges
 * them as the container's own, and the attributes that we lock stay locked.
 */
export const mountTraps: Traps = ({ mount }) => {
  if (!mount || mount.allowed.size + mount.fuse.size === 0) return []
  return [
    ...newSuperblock.map((condition) => ({ name: 'mount', when: [condition] })),
    ...['fsopen', 'fsconfig', 'fsmount'].map((name) => ({ name })),
    { name: 'move_mount', when: [fromDescriptor] },
    { name: 'mount_setattr', when: [ofDescriptor] },
  ]
}
