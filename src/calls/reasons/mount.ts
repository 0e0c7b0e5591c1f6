import type { Sentences } from './sentences.ts'

/** Reasons of mount(2), and of fsopen(2) and its family. */
export const mount = {
  changesMounts: ['no new file system is mounted, so the kernel judges the call alone', ''],
  remountsFileSystem: [
    'a file system that stands is to be changed, which the kernel lets its mounter alone do: the container those that it mounted itself',
    'for ro, nosuid, noexec of one mount take remount,bind; else unmount it, and mount it with the options',
  ],
  forcesUnmount: [
    'umount -f is for who mounted the file system alone: the container those that it mounted itself',
    'take umount, or umount -l',
  ],
  accessTimesLocked: [
    'the access times (noatime, nodiratime, ...) of a mount that comes from outside of the container, or that is locked with its nodev, would change: the kernel keeps them',
    'give them when the file system is mounted',
  ],
  fileSystemNotAllowed: [
    'the file system {a:name} is not in security.syscalls.intercept.mount.allowed',
    'mount it by FUSE, or allow it if you trust its driver with bytes that the container made; if nobody named it, mount(8) could not look into the device and tries all there are: show it that, for intercede run and podman by --device',
  ],
  fileSystemMiswritten: [
    'the kernel knows no file system of the name {a:name}, which it takes letter by letter',
    'write the name in small letters',
  ],
  sourceMissing: [
    'the source of the mount is not there for the caller',
    'show the device to the container, for intercede run and podman by --device',
  ],
  sourceBarred: [
    'the device rules of the control group of the caller do not let the source of the mount be opened',
    'allow the device where the container is started, for intercede run and podman by --device',
  ],
  sourceClosed: [
    'the caller may not open the source of the mount: its owner and mode, or a file system without devices (nodev), forbid it',
    'give the device to the container, for intercede run and podman by --device; if the runtime binds the node of the host (runc, LXC), let that belong to the user who is root there',
  ],
  kernelMountsIt: ['a file system that the kernel mounts for any container', ''],
  takesDescriptors: [
    'the file system {a:name} takes descriptors as options, which mean something else for intercede',
    'leave it out of security.syscalls.intercept.mount.allowed',
  ],
  namesHost: [
    'its source or an option is no device but the name of something of the host, which intercede would mount as root of the host',
    'take a file system from a block device, or one by FUSE; see docs/guide/mount.md',
  ],
  notForAll: ['the option is none that the kernel takes for a tmpfs of a container', 'leave it out'],
  reservesPages: [
    'the option takes huge pages away from the host before anybody uses one',
    'leave min_size out; size, which is a limit, is served',
  ],
  endsMachine: [
    'the option asks the kernel to panic when the file system has an error, and that would be the whole machine',
    'take errors=remount-ro instead',
  ],
  labelsFiles: [
    'the option gives files labels of the security module of the host',
    'leave it out: a container may not say what its files are to the host',
  ],
  foreignContext: ['the context is none that this container got from intercede, so the kernel judges it alone', ''],
  foreignMount: ['the mount is none that intercede made for this container, so the kernel judges it alone', ''],
  madeBefore: [
    'the mount was made before security.syscalls.intercept.mount.nodev or mount.shift was changed, and gives more than they do now',
    'mount it anew',
  ],
  contextTold: ['noted for the file system that will be made', ''],
  contextFull: ['a context was told more than a page of parameters', ''],
  contextBusy: ['another call works on the context', ''],
  contextUnready: ['nothing was made in the context that could be mounted', ''],
  parameterNotServed: [
    'a file system is made from flags and strings only',
    'let the program name what it means by a string',
  ],
  tooManyContexts: [
    'calls use all file system contexts that the container, or all containers together, may have at once',
    'find the containers that call fsopen and go no further',
  ],
  mountsBusy: [
    'the container or the host has too many mounts in flight, or processes that mount for the container end again and again',
    'find out which device does not answer, or why the control group of the container kills; a mount that hangs counts until the kernel gives it up',
  ],
  mountStuck: ['the mount did not end in time', 'find out why its device does not answer'],
  mounterEnded: [
    'the process that mounts has ended before it was done',
    'what keeps it from starting is on the standard error of intercede; a container that kills its control group or has no memory left ends it too',
  ],
  cannotShift: [
    'the file system cannot be shown with the ids of the container',
    'set security.syscalls.intercept.mount.shift to false, or mount it by FUSE',
  ],
  groupsNotJoined: [
    'the control groups of the caller could not be joined, and without their device rules nothing is mounted',
    'run intercede where it may write to the cgroup file systems of the host',
  ],
} as const satisfies Sentences
