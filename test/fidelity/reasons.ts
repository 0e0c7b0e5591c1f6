// Why a container with all keys gets something else than root of the host, each reason once.

export const reasons = {
  device: 'Intercede makes only devices of `mknod` and `mknod.devices`: [what cannot be listed](devices.md)',
  block:
    'block devices are disks of the host: only the runtime gives them to a container, whose nodes [may be granted](devices.md#granted)',
  nodev: 'devices do not open on mounts of Intercede, unless `mount.nodev=false`: [what is safe](mount.md#security)',
  foreign:
    "the directory or file belongs to a user that the container does not have, so the container's capabilities do not apply",
  overlay: 'an overlay makes nodes and attributes with the rights of the user that mounted it',
  superblock:
    'the superblock belongs to the host, and changing it is left to the kernel: [calls and options](mount.md#calls-and-options)',
  atime: 'the lock that keeps nodev also keeps the access times',
  locked: 'it is a bind mount of a mount of the host, and only the host may change its access times',
  shift: '`mount.shift` is on, and the file system does not support shifted ids',
  runtime: 'the runtime mounted it this way',
  procfs:
    'procfs has no attributes: the kernel tells privileged callers that this is not supported, and others that it is not permitted',
  refused:
    'the file system shows the host, or the kernel would parse it from bytes that nobody allowed: [what cannot be allowed](mount.md#what-cannot-be-allowed)',
  attribute:
    'of the `trusted.` attributes, `setxattr` allows only `trusted.overlay.opaque` with the value `y`; [a list](attributes.md) can name more',
  deadline: 'SCHED_DEADLINE could take a processor for itself: [what is served](scheduling.md)',
  sysinfo: 'the key exists for this difference: [which figure is what](sysinfo.md)',
  spent: "Intercede forgets a context that was mounted, and the container's descriptor of it is empty",
  program: 'Intercede leaves everything alone that is not a program of this container',
  bpf: "only device programs, below the container's own cgroup: [what is served](bpf.md)",
} as const

/** Why a container of podman with all keys gets something else than one of `run`. */
export const podmanReasons = {
  group: 'the container has no cgroup of its own (`--cgroups=disabled`): no device programs, no limits',
  unlocked: 'podman binds the directory inside the container, so its access times are not locked',
} as const

export type PodmanReasonName = keyof typeof podmanReasons
export type ReasonName = keyof typeof reasons
