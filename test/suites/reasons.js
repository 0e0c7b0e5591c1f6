// Why a test of a suite ends otherwise in a container than as root of the host: each reason once, with its tests.

export const reasons = {
  shift: {
    why: 'The test mounts an ext2, and the kernel cannot shift its ids. Without `mount.shift` it ends as for root of the host',
    tests: [],
  },
  superblock: {
    why: 'The test remounts the file system itself. That is [left to the kernel](../guide/mount.md#calls-and-options)',
    tests: ['mount: complex', 'mount: remount', 'tests/rm/read-only.sh'],
  },
  nobody: {
    why: 'The test changes files of its image. Without `mount.shift` they belong to nobody. With it an ext4 passes, but an ext2 cannot be mounted',
    tests: ['mount: X-mount.{owner,group,mode}=', 'mount: X-mount.subdir', 'tests/cp/cross-dev-symlink.sh'],
  },
  nodev: {
    why: 'The test compares the flags of an ext2. Intercede [adds nodev](../guide/mount.md#security) to them',
    tests: ['mount: shared-subtree'],
  },
  host: { why: 'The test writes to /sbin, which belongs to root of the host', tests: ['mount: call mount.<type>'] },
  immutable: {
    why: 'The test calls `chattr +i` or `+a`, which requires CAP_LINUX_IMMUTABLE on the host',
    tests: ['tests/rm/empty-immutable-skip.sh', 'tests/tail/append-only.sh'],
  },
  btrfs: {
    why: 'The test opens /dev/btrfs-control, which the container does not have',
    tests: ['mount: btrfs (fstab)'],
  },
  deadline: {
    why: 'The test uses SCHED_DEADLINE, which [is not served](../guide/scheduling.md)',
    tests: ['schedutils: chrt'],
  },
}

/** @returns the name of the reason, or what tells that somebody must find it */
export function reasonOf({ test, native, ours, unshifted }) {
  if (ours !== native && unshifted === native) return 'shift'
  return Object.keys(reasons).find((name) => reasons[name].tests.includes(test)) ?? 'not known'
}
