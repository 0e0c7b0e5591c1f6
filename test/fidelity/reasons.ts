// Why a container with all keys gets something else than root of the host, each reason once.

export const reasons = {
  device: 'only devices of `mknod` and `mknod.devices` are made: [what cannot be listed](devices.md)',
  block: 'block devices are disks of the host: they are given to a container by its runtime, never made',
  nodev:
    'no device opens on what Intercede mounted, unless `mount.nodev=false`: [what is safe](mount.md#what-is-safe-and-what-is-not)',
  foreign:
    'the directory or file belongs to a user that the container does not have, so its capabilities count for nothing there',
  overlay: 'an overlay makes nodes and attributes with the rights of who mounted it',
  superblock:
    "the superblock is the host's, and to change it is left to the kernel: [what works how](mount.md#what-works-how)",
  atime: 'the lock that keeps nodev keeps the access times too',
  locked: 'the bind is of a mount of the host, whose access times the kernel lets nobody else change',
  shift: 'the file system has no mounts with shifted ids, and `mount.shift` is on',
  runtime: 'the runtime mounted it so',
  procfs:
    'there are no attributes: the kernel says that this is not supported to the privileged, and not permitted to others',
  refused:
    'the file system shows the host, or is parsed from bytes that nobody allowed: [what cannot be allowed](mount.md#what-cannot-be-allowed)',
  attribute: 'the only attribute of `trusted.` that is served is `trusted.overlay.opaque` with the value `y`',
  deadline: 'SCHED_DEADLINE could take a processor for itself: [what is served](scheduling.md)',
  untrapped: "the call is not trapped: the kernel judges it as the container's own",
  sysinfo: 'it is what the key is for: [which figure is what](sysinfo.md)',
  spent: 'a context that was mounted is forgotten, and what the container holds of it is empty',
  program: "what is no program of this container's is left alone, whatever it is",
  bpf: "only device programs, below the container's own cgroup: [what is served](bpf.md)",
} as const

/** Why a container of podman with all keys gets something else than one of `run`. */
export const podmanReasons = {
  group: 'the container has no control group of its own (`--cgroups=disabled`): no device programs, no limits',
  unlocked: 'podman binds the directory inside of the container, so its access times are not locked',
} as const

export type PodmanReasonName = keyof typeof podmanReasons
export type ReasonName = keyof typeof reasons
