/**
 * Maps the code of each reason to its sentence, and its remedy if there is one. It is the only place of them: the log,
 * the end of `intercede run`, metrics and docs/guide/reasons.md read this table.
 *
 * `{a}` and `{b}` are replaced by the reason's numbers, `{a:cap}` by the name of capability a, `{a:name}` by the name
 * that both numbers hold (short-name.ts), `{a:program}` by the FUSE program that is number a of the policy.
 */
export const reasons = {
  // Reasons that any call may have.
  done: ['done for the caller', ''],
  kernelAnswered: ['done as the caller: the kernel itself answered with this errno', ''],
  adopted: ['done before a signal interrupted the call, which then came again', ''],
  keyOff: [
    'the key {a:key} is off for this container',
    'switch it on where it was switched off: the first log line of the container says where',
  ],
  notServed: ['this version does not serve this call yet', 'leave its key off: trapping it only costs time'],
  lacksCapability: [
    'the caller lacks CAP_{a:cap} in its user namespace',
    'run it as the container root, and start the container with --cap-add {a:cap}',
  ],
  childUserns: [
    'the caller is in a child user namespace of the container, whose capabilities give nothing',
    'make the call from the initial user namespace of the container',
  ],
  hostUserns: [
    'the container has no user namespace of its own',
    'start it with --userns=auto (podman), --userns-remap (Docker), hostUsers: false (Kubernetes) or lxc.idmap (LXC)',
  ],
  userDaemon: [
    'intercede runs for a user here (serve --user), and the kernel lets only root of the host do this',
    'have the administrator run intercede serve, and start the container as root with a user namespace of its own',
  ],
  foreignUserns: [
    'the user namespace of the container is not a direct child of that of intercede',
    'run intercede in the user namespace in which the runtime runs',
  ],
  unclearUserns: [
    'the init of the container is not in the user namespace that owns its pid namespace, so which one it began in is unclear',
    'start the container with a pid namespace of its own, and leave its init in its first user namespace',
  ],
  policyInvalid: [
    'the metadata of the container, or the profile of the configuration that it names, is invalid; the log line "Cannot use the policy" says why',
    'correct the metadata and start the container again, or correct the configuration and reload the service, which reaches the running container',
  ],
  unknownContainer: [
    'the container was started before this daemon, or its hand-over failed',
    'start the container again',
  ],
  invisibleCaller: [
    'the caller is not visible in the pid namespace of intercede',
    'run intercede in the host pid namespace',
  ],
  gone: ['the caller died or was interrupted before the answer', ''],
  tooManyGroups: [
    'the caller has more than {a} supplementary groups, which to read and take on for each call would keep others waiting',
    'make the call from a process with fewer groups',
  ],
  unreadable: ['the arguments cannot be read from the memory of the caller', ''],
  lookFailed: ['a look at the caller or its files failed with errno {a}, so the kernel judges it alone', ''],
  notWritten: ['the result could not be written to the memory of the caller: looking at it failed with errno {a}', ''],
  containerBusy: [
    'too many calls of all containers hang in their file systems, or LXC has forwarded too many of this one at once',
    'find the containers whose calls are logged late, and what hangs there',
  ],
  engineFailed: ['the engine fails with such calls', 'please report it with the log lines before'],
  engineEnded: ['an engine ended when it had answered the call, or the caller died or was interrupted just then', ''],
  noEngine: [
    'engines of intercede fail all the time, so calls are left to the kernel until the next one is tried',
    'see why in its log: journalctl -u intercede -p err',
  ],
  unsettled: ['the engine ended in the middle of the act, and what it did cannot be told', ''],
  otherThread: [
    'before Linux 6.9 the descriptors of a thread that is not the first of its process cannot be looked at',
    'make the call from the main thread',
  ],
  fault: ['a fault of intercede itself', 'please report it with the log line'],

  // Reasons of calls that name a file.
  pathNotResolved: ['the path does not resolve for the caller, so the kernel reports why', ''],
  pathDescriptor: ['the descriptor was opened with O_PATH, so the kernel refuses it', ''],
  noWalker: [
    'the path can only be resolved in the user namespace of the container, where there is nobody to do it',
    'start the container with a pid namespace of its own; fs.suid_dumpable must not be 1',
  ],
  walkerStuck: [
    'the directory lies on a file system of the container that does not answer',
    'find out which of its file systems hangs',
  ],
  crossesProc: [
    'the path leads through a link of procfs, which means something else for intercede',
    'name the directory itself',
  ],

  // Reasons of mknod(2).
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

  // Reasons of setxattr(2) and its family.
  attributeOfAll: ['an attribute that the kernel serves for the owner of a file in any user namespace', ''],
  otherAttribute: ['not the attribute trusted.overlay.opaque with the value y, so the kernel decides', ''],
  ofKernel: ['the file is one of sysfs or of a control group, in which no overlay looks for the attribute', ''],
  attributeAbsent: [
    'the inode has no attribute trusted.overlay.opaque that could be added to what the kernel says',
    '',
  ],
  invalidArgument: ['an argument has a value that the kernel does not know, and it says so', ''],
  notOfContainer: [
    'the owner or the group of the inode is not mapped in the user namespace of the container',
    'give the inode an owner and a group of the container',
  ],
  callUnknown: ['this kernel does not have the call, and it says so', ''],
  closedToUs: ['the file system lets only its own user namespace in, so the kernel decides', ''],

  // Reasons of mount(2), and of fsopen(2) and its family.
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

  // Reasons of file systems that a FUSE program mounts.
  fuseByMount: [
    'the file system is mounted by a FUSE program, which mount(2) asks for: programs such as mount(8) use that next',
    '',
  ],
  fuseNoRuntime: [
    'the runtime that could start a FUSE program in the container is not known',
    'start the container with crun or runc, on Linux 6.5 or later',
  ],
  fuseElsewhere: [
    'the caller is not in the namespaces, the root directory or under the label of the container, where its FUSE programs start',
    'mount it from a process that has not left them',
  ],
  fuseFilters: [
    'the caller has more seccomp filters than its container, and a FUSE program would not have them',
    'mount it from a process without filters of its own',
  ],
  fuseIds: [
    'the caller has several user or group ids at once, or one that its container does not map, as no FUSE program can have',
    'mount it from a process that is root in all of its ids',
  ],
  fuseNotText: ['the paths or options are no UTF-8, and the runtime takes nothing else', ''],
  fuseNoDevice: ['the container has no /dev/fuse that it may open', 'start the container with --device /dev/fuse'],
  fuseNoProgram: [
    'the image of the container lacks the FUSE program {a:program}, which the policy names',
    'install it in the image, where the PATH of the container leads',
  ],
  fuseNotInImage: [
    'the image of the container lacks the FUSE program {a:program}, which the policy names by an absolute path: it is one of the image, never one of the host',
    'install it in the image at this path, or name it without one',
  ],
  fuseBusy: [
    'the container has too many FUSE programs, or too many are starting and it was not its turn in time',
    'try again, or unmount what is not needed',
  ],
  fuseFailed: [
    'the FUSE program ended with status {a}; what it said is logged beside this',
    'try it by hand in the container',
  ],
  fuseNotMounted: ['the FUSE program ended without an error, and had not mounted anything on the target', ''],
  fuseTimeout: ['the FUSE program had not mounted after 10 seconds, and was ended', 'try it by hand in the container'],

  // Reasons of sched_setscheduler(2) and its family.
  invalidArguments: ['the arguments are not valid, and the kernel says what is wrong with them', ''],
  schedulingNotServed: [
    'the scheduling policy {a}, or a flag that came with it, is not given to containers',
    'use SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO or SCHED_RR',
  ],
  priorityTooHigh: [
    'the priority {a} is higher than {b}, the highest that the policy gives',
    'if the host can bear it, raise security.syscalls.intercept.sched_setscheduler.max_priority',
  ],
  scheduledByHost: [
    'the host has given the task a scheduling policy or a priority that the container may not give, so it may not change it',
    '',
  ],
  noSuchTask: ['there is no process or thread of this number in the pid namespace of the caller', ''],
  outsideContainer: ['the process or thread of this number does not belong to the container', ''],
  pidNotTranslated: [
    'this kernel does not translate process numbers of a container',
    'use Linux 6.11 or later; before it, a call about the calling process itself (number 0) is done',
  ],
  threadNotPinned: [
    'this kernel cannot keep hold of a single thread',
    'use Linux 6.9 or later; before it, only the first thread of a process is served',
  ],

  // Reasons of bpf(2).
  bpfMap: ['a map of bpf, which no device program needs; the kernel lets root of the host alone make one', ''],
  bpfCommand: ['the command {a} of bpf is none that is served for device programs', ''],
  bpfProgramType: ['a program of type {a}: only device programs of cgroups are served', ''],
  bpfAttachType: ['an attachment of type {a}: only device programs of cgroups are served', ''],
  bpfUnknownMember: ['byte {a} of the argument is beyond all members that are known, so the kernel judges', ''],
  bpfMember: [
    'the member at byte {a} of the argument must be zero: what it names would be looked up in intercede, not in the caller',
    'use no maps, no BTF and no tokens in a device program',
  ],
  bpfFlags: ['the flags {a} are not served for device programs', ''],
  bpfTooLong: ['{a} instructions are too many for a device program: 4,096 are served', 'shorten the list of devices'],
  bpfInstruction: [
    'instruction {a} (code {b}) is none that a device program needs: a call, a map, or memory beyond its context and stack',
    'write the program with nothing but arithmetic, jumps, and loads from its context',
  ],
  notOpen: ['no such descriptor is open in the thread that called', ''],
  notOurs: ['the descriptor or number is of no program that this container has loaded through intercede', ''],
  notAttached: ['that program is not attached to this cgroup', ''],
  notCgroup: ['the descriptor is of no cgroup of the unified hierarchy', ''],
  removedCgroup: ['the cgroup of the descriptor was removed', ''],
  noCgroup: [
    'the container is in no cgroup of the unified hierarchy that intercede can see',
    'mount cgroup2 on the host before the daemon starts, and start the container with a cgroup manager',
  ],
  rootCgroup: [
    'the container is in the root cgroup, which is not its own',
    'start the container with a cgroup manager, not with --cgroup-manager=disabled or --cgroups=disabled',
  ],
  sharedCgroup: [
    'the cgroup of the container also holds processes of others',
    'give the container a cgroup of its own',
  ],
  crowdedCgroup: [
    'the cgroup of the container holds too many processes to look at',
    'spread them over groups below it',
  ],
  ownCgroup: [
    'the cgroup is the one into which the runtime put the container, whose device rules are not its to change',
    'make a cgroup below it',
  ],
  outsideCgroup: ['the cgroup is not below that of the container', ''],
  loosens: [
    'a cgroup above has a device program without BPF_F_ALLOW_MULTI: one below would replace it instead of adding to it',
    'start the container with a runtime that attaches its device rules with BPF_F_ALLOW_MULTI, such as crun',
  ],
  tooManyPrograms: [
    'the container has too many device programs and links: 128 at once are served',
    'close or detach some',
  ],
} as const satisfies Readonly<Record<string, readonly [says: string, remedy: string]>>
