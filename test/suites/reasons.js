// Why a test of a suite ends otherwise in a container than as root of the host: each reason once, with its tests.

export const reasons = {
  shift: {
    why: 'it mounts an ext2, whose ids the kernel cannot shift: without `mount.shift` it ends as for root of the host',
    tests: [],
  },
  superblock: {
    why: 'it remounts the file system itself, which is [left to the kernel](../guide/mount.md#what-works-how)',
    tests: ['mount: complex', 'mount: remount', 'tests/rm/read-only.sh'],
  },
  nobody: {
    why: 'it changes files of its image, which without `mount.shift` belong to nobody; an ext4 passes with it, an ext2 cannot be mounted',
    tests: ['mount: X-mount.{owner,group,mode}=', 'mount: X-mount.subdir', 'tests/cp/cross-dev-symlink.sh'],
  },
  nodev: {
    why: 'it compares the flags of an ext2, to which nodev [is added](../guide/mount.md#what-is-safe-and-what-is-not)',
    tests: ['mount: shared-subtree'],
  },
  host: { why: 'it writes to /sbin, which belongs to root of the host', tests: ['mount: call mount.<type>'] },
  immutable: {
    why: 'it calls `chattr +i` or `+a`, which takes CAP_LINUX_IMMUTABLE of the host',
    tests: ['tests/rm/empty-immutable-skip.sh', 'tests/tail/append-only.sh'],
  },
  btrfs: { why: 'it asks /dev/btrfs-control, which the container does not have', tests: ['mount: btrfs (fstab)'] },
  deadline: {
    why: 'it takes SCHED_DEADLINE, which [is not served](../guide/scheduling.md)',
    tests: ['schedutils: chrt'],
  },
}

/** @returns the name of the reason, or what tells that somebody must find it */
export function reasonOf({ test, native, ours, unshifted }) {
  if (ours !== native && unshifted === native) return 'shift'
  return Object.keys(reasons).find((name) => reasons[name].tests.includes(test)) ?? 'not known'
}
