import { capabilities } from '../abi/capability.ts'

/**
 * Every verdict has a reason: a code with up to two numbers. This table is the only place of the sentences; logs, the
 * end of `intercede run`, metrics and docs/reasons.md read it. `{a}` and `{b}` are the numbers, `{a:cap}` a capability.
 */
export const reasons = {
  done: ['done for the caller', ''],
  kernelAnswered: ['done as the caller: the kernel itself answered with this errno', ''],
  adopted: ['done before a signal interrupted the call, which then came again', ''],
  doneButClosed: [
    'done for the caller, but the device rules of its control group do not let it be opened',
    'allow the device where the container is started, for podman by --device-cgroup-rule',
  ],
  deviceCgroup: [
    'the device rules of the control group of the caller do not let the device {a}:{b} be made',
    'allow it where the container is started, for podman by --device-cgroup-rule',
  ],
  notCharDevice: ['only character devices are made, the rest is left to the kernel', ''],
  kernelMakesWhiteouts: ['an overlay whiteout (0:0), which the kernel makes for anybody', ''],
  deviceNotAllowed: [
    'the device {a}:{b} is not allowed',
    'if it is harmless, add c:{a}:{b} to security.syscalls.intercept.mknod.devices',
  ],
  keyOff: ['the policy of this container does not serve this call', 'set the key security.syscalls.intercept.* for it'],
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
    'the policy that came with the container is invalid; the log line of its start says why',
    'correct the policy and start the container again',
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
  unreadable: ['the arguments cannot be read from the memory of the caller', ''],
  pathNotResolved: ['the path does not resolve for the caller, so the kernel reports why', ''],
  otherAttribute: ['not the attribute trusted.overlay.opaque with the value y, so the kernel decides', ''],
  attributeAbsent: [
    'the inode has no attribute trusted.overlay.opaque that could be added to what the kernel says',
    '',
  ],
  invalidArgument: ['an argument has a value that the kernel does not know, and it says so', ''],
  notOfContainer: [
    'the owner or the group of the inode is not mapped in the user namespace of the container',
    'give the inode an owner and a group of the container',
  ],
  pathDescriptor: ['the descriptor was opened with O_PATH, so the kernel refuses it', ''],
  callUnknown: ['this kernel does not have the call, and it says so', ''],
  closedToUs: ['the file system lets only its own user namespace in, so the kernel decides', ''],
  noWalker: [
    'the directory can only be opened in the user namespace of the container, where there is nobody to do it',
    'start the container with a pid namespace of its own',
  ],
  walkerStuck: [
    'the directory lies on a file system of the container that does not answer',
    'find out which of its file systems hangs',
  ],
  nodevMount: [
    'the mount does not allow devices (nodev): a node there could not be opened',
    'make the node on a mount without nodev',
  ],
  hostMounts: [
    'it could only be done in a mount namespace of the container, and the caller is in none',
    'start the container with a mount namespace of its own',
  ],
  changesMounts: ['no new file system is mounted, so the kernel judges the call alone', ''],
  fileSystemNotAllowed: [
    'the file system is not in security.syscalls.intercept.mount.allowed',
    'mount it by FUSE, or allow it if you trust its driver with bytes that the container made; if nobody named it, mount(8) could not look into the device and tries all there are: show it that, for intercede run and podman by --device',
  ],
  fileSystemMiswritten: [
    'the kernel knows no file system of that name, which it takes letter by letter',
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
    'the file system takes descriptors as options, which mean something else for intercede',
    'leave it out of security.syscalls.intercept.mount.allowed',
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
  contextTold: ['noted for the file system that will be made', ''],
  contextFull: ['a context was told more than a page of parameters', ''],
  contextBusy: ['another call works on the context', ''],
  contextUnready: ['nothing was made in the context that could be mounted', ''],
  parameterNotServed: [
    'a file system is made from flags and strings only',
    'let the program name what it means by a string',
  ],
  tooManyContexts: [
    'too many file systems are described at once by all containers',
    'find the containers that call fsopen and go no further',
  ],
  mountsBusy: [
    'the container or the host has too many mounts in flight',
    'find out which device does not answer; a mount that hangs counts until the kernel gives it up',
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
    'the image of the container lacks the FUSE program that the policy names',
    'install it in the image, where the PATH of the container leads',
  ],
  fuseNotInImage: [
    'the image of the container lacks the FUSE program, which the policy names by an absolute path: it is one of the image, never one of the host',
    'install it in the image at this path, or name it without one',
  ],
  fuseBusy: ['the container or the host has too many FUSE programs starting', 'wait until those have mounted'],
  fuseFailed: [
    'the FUSE program ended with status {a}; what it said is logged beside this',
    'try it by hand in the container',
  ],
  fuseNotMounted: ['the FUSE program ended without an error, and had not mounted anything on the target', ''],
  fuseTimeout: ['the FUSE program had not mounted after 10 seconds, and was ended', 'try it by hand in the container'],
  tooManyMounts: [
    'the container has had too many device nodes mounted',
    'make them on a file system that the host mounted without nodev',
  ],
  containerSuperblock: [
    'the file system was mounted inside the container: a device node there could not be opened',
    'make the node on a file system that the host mounted',
  ],
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
  lookFailed: ['a look at the caller or its files failed with errno {a}, so the kernel judges it alone', ''],
  crossesProc: [
    'the path leads through a link of procfs, which means something else for intercede',
    'name the directory itself',
  ],
  containerBusy: [
    'too many calls of all containers hang in their file systems',
    'find the containers whose calls are logged late, and what hangs there',
  ],
  engineFailed: ['the engine fails with such calls', 'please report it with the log lines before'],
  unsettled: ['the engine ended in the middle of the act, and what it did cannot be told', ''],
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
  tooManyPrograms: ['the container has too many device programs: 128 at once are served', 'close or detach some'],
  otherThread: [
    'before Linux 6.9 the descriptors of a thread that is not the first of its process cannot be looked at',
    'make the call from the main thread',
  ],
  fault: ['a fault of intercede itself', 'please report it with the log line'],
} as const satisfies Record<string, readonly [says: string, remedy: string]>

export type ReasonCode = keyof typeof reasons
export interface Reason {
  readonly code: ReasonCode
  readonly a?: number
  readonly b?: number
}

/** The codes in the order of the table; a record holds the index. */
export const reasonCodes = Object.keys(reasons) as readonly ReasonCode[]

/** Every call has one, so no member is spread into it. */
export function why(code: ReasonCode, a?: number, b?: number): Reason {
  if (a === undefined) return { code }
  return b === undefined ? { code, a } : { code, a, b }
}

/** The sentence and the remedy of a reason, its numbers filled in; the remedy is empty where none is needed. */
export function explain({ code, a = 0, b = 0 }: Reason): { readonly says: string; readonly remedy: string } {
  const fill = (text: string): string =>
    text
      .replaceAll('{a:cap}', capabilities[a] ?? String(a))
      .replaceAll('{a}', String(a))
      .replaceAll('{b}', String(b))
  const [says, remedy] = reasons[code]
  return { says: fill(says), remedy: fill(remedy) }
}
