import type { Sentences } from './sentences.ts'

/** Reasons of mknod(2). */
export const node = {
  doneButClosed: [
    'done for the caller, but the device rules of its control group do not let it be opened',
    'allow the device where the container is started, for podman by --device-cgroup-rule',
  ],
  doneOnNodev: [
    'done for the caller, but its mount does not allow devices (nodev), so the node does not open there',
    'open it on a mount without nodev',
  ],
  doneAndBarred: [
    'done for the caller, as a mount on an empty file that nobody can open: the device would be one of the host',
    '',
  ],
  deviceCgroup: [
    'the device rules of the control group of the caller do not let the device {a}:{b} be made',
    'allow it where the container is started, for podman by --device-cgroup-rule',
  ],
  opensHost: [
    'the device {a}:{b} would open one of the host, and the mount that nobody can open could not be made in its place',
    'use Linux 6.15 or later',
  ],
  deviceRulesUnknown: [
    "the device rules of the caller's control group could not be found out: no process could join the group, or the group ended it",
    'see whether the host has room for one more process, and the group has memory for a shell and is at most 128 levels deep',
  ],
  notCharDevice: ['only character devices are made, the rest is left to the kernel', ''],
  kernelMakesWhiteouts: ['an overlay whiteout (0:0), which the kernel makes for anybody', ''],
  deviceNotAllowed: [
    'the device {a}:{b} is not allowed',
    'if it is harmless, add c:{a}:{b} to security.syscalls.intercept.mknod.devices',
  ],
  hostMounts: [
    'it could only be done in a mount namespace of the container, and the caller is in none',
    'start the container with a mount namespace of its own',
  ],
  tooManyMounts: [
    'the container has had too many device nodes mounted',
    'make them on a file system that the host mounted without nodev',
  ],
  containerSuperblock: [
    'the file system was mounted inside the container: a device node there could not be opened',
    'make the node on a file system that the host mounted',
  ],
  nodesNotShown: [
    'the file system was mounted inside the container, and before Linux 6.15 no device node can be made to open there',
    'mount a tmpfs there by mount.allowed=tmpfs, on which nodes open; or boot Linux 6.15 or later',
  ],
} as const satisfies Sentences
